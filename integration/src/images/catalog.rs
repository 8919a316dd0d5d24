//! Which images there are and what is in each: the mesh's programs, the cluster's own, and one for tests. In: binaries
//! and this machine's programs. Out: archives in a directory.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use act::process::Failure;
use clap::Args;

use super::{
    archive::{Image, write},
    root::Root,
};

/// The user that images run as, where they need nothing of root.
const NOBODY: u32 = 65532;
/// The mesh's programs: name, user, and the programs of this machine that it runs. The node's parts enter other network
/// namespaces, for which the kernel wants root.
const MESH: [(&str, u32, &[&str]); 4] = [
    ("ca", NOBODY, &[]),
    ("waypoint", NOBODY, &[]),
    ("weft-cni", 0, &["nft", "ip"]),
    ("ztunnel", 0, &[]),
];
/// Programs of the test image, and the Debian packages they come in.
const TEST: [(&str, &str); 10] = [
    ("busybox", "busybox-static"),
    ("curl", "curl"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("nginx", "nginx-light"),
    ("openssl", "openssl"),
    ("socat", "socat"),
    ("ss", "iproute2"),
    ("tcpdump", "tcpdump"),
    ("wrk", "wrk"),
];
/// Where programs of this machine are looked for.
const PATHS: [&str; 4] = ["/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// What images are made of.
#[derive(Debug, Clone, Args)]
pub struct ImagesOptions {
    /// Where the mesh's binaries are
    #[arg(long, value_name = "DIR", default_value = "target/debug")]
    pub bin: PathBuf,
    /// Where the archives are put
    #[arg(long, value_name = "DIR", default_value = "target/images")]
    pub out: PathBuf,
    /// Another program for the test image, such as a load generator
    #[arg(long = "extra", value_name = "FILE")]
    pub extras: Vec<PathBuf>,
}

/// Builds the mesh's images and the test image, and tells of each.
///
/// # Errors
/// Names what is missing and where it comes from.
pub fn build(options: &ImagesOptions, say: &dyn Fn(&str)) -> Result<(), Failure> {
    fs::create_dir_all(&options.out)
        .map_err(|error| Failure(format!("{} cannot be made: {error}", options.out.display())))?;
    for (name, user, programs) in MESH {
        let mut root = Root::new();
        let binary = options.bin.join(name);
        root.program(name, &binary, Some(stripped(&binary, &options.out)?))?;
        for program in programs {
            root.program(program, &find(program, program)?, None)?;
        }
        finish(options, say, image(name, root, user))?;
    }
    finish(options, say, test(options)?)
}

/// The image of the process that holds a pod, compiled from its C source.
///
/// # Errors
/// When it cannot be compiled or written.
pub fn pause(source: &Path, archive: &Path) -> Result<(), Failure> {
    let binary = archive.with_extension("bin");
    let status = Command::new("gcc")
        .args(["-static", "-Os", "-Wall", "-o"])
        .arg(&binary)
        .arg(source)
        .output()
        .map_err(|error| {
            Failure(format!(
                "gcc cannot be started: {error}; install it with `apt-get install gcc libc6-dev`"
            ))
        })?;
    if !status.status.success() {
        let said = String::from_utf8_lossy(&status.stderr);
        return Err(Failure(format!(
            "{} cannot be compiled: {}",
            source.display(),
            said.trim()
        )));
    }
    let mut root = Root::default();
    root.program("pause", &binary, None)?;
    let _ = fs::remove_file(&binary);
    write(&image("pause", root, NOBODY), archive)
}

/// The image of the cluster's DNS.
///
/// # Errors
/// When the program cannot be read or the archive not written.
pub fn coredns(program: &Path, archive: &Path) -> Result<(), Failure> {
    let mut root = Root::new();
    root.program("coredns", program, None)?;
    write(&image("coredns", root, NOBODY), archive)
}

/// What tests run in pods: a shell, clients, servers, and programs of ours.
fn test(options: &ImagesOptions) -> Result<Image, Failure> {
    let mut root = Root::new();
    for (program, package) in TEST {
        root.program(program, &find(program, package)?, None)?;
    }
    for extra in &options.extras {
        let name = extra
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| Failure(format!("{} is no program", extra.display())))?;
        root.program(name, extra, Some(stripped(extra, &options.out)?))?;
    }
    for applet in applets()? {
        if !root.has_program(&applet) {
            root.link(&format!("/usr/bin/{applet}"), "busybox");
        }
    }
    for directory in ["/var/lib/nginx", "/var/log/nginx", "/var/cache", "/www"] {
        root.directory(directory, 0o1777);
    }
    root.link("/etc/nginx/modules", "/usr/lib/nginx/modules");
    for file in ["/etc/nginx/mime.types", "/etc/ssl/openssl.cnf"] {
        if let Ok(text) = fs::read_to_string(file) {
            root.text(file, &text);
        }
    }
    root.link("/usr/lib/ssl/openssl.cnf", "/etc/ssl/openssl.cnf");
    let mut image = image("test", root, 0);
    image.entrypoint = vec!["/usr/bin/sleep".into(), "infinity".into()];
    Ok(image)
}

fn image(name: &str, root: Root, user: u32) -> Image {
    Image {
        name: format!("localhost/weft/{name}:{}", env!("CARGO_PKG_VERSION")),
        root,
        entrypoint: vec![format!("/usr/bin/{name}")],
        user,
    }
}

fn finish(options: &ImagesOptions, say: &dyn Fn(&str), image: Image) -> Result<(), Failure> {
    let file = image
        .name
        .rsplit('/')
        .next()
        .unwrap_or("image")
        .split(':')
        .next()
        .unwrap_or("image");
    let path = options.out.join(format!("{file}.tar"));
    write(&image, &path)?;
    let megabytes = fs::metadata(&path).map_or(0, |it| it.len() / 1_000_000);
    say(&format!("{:<32} {megabytes:>4} MB  {}", image.name, path.display()));
    Ok(())
}

/// A binary of ours without its debug sections, which are most of it and which no pod reads.
fn stripped(binary: &Path, scratch: &Path) -> Result<Vec<u8>, Failure> {
    if !binary.exists() {
        return Err(Failure(format!(
            "{} is missing; build it with `cargo build --workspace --bins`",
            binary.display()
        )));
    }
    let failed = |error: &dyn std::fmt::Display| Failure(format!("{} cannot be stripped: {error}", binary.display()));
    let small = scratch.join("stripped");
    let output = Command::new("strip")
        .args(["--strip-debug", "-o"])
        .args([small.as_path(), binary])
        .output()
        .map_err(|error| failed(&format_args!("{error}; install strip with `apt-get install binutils`")))?;
    if !output.status.success() {
        return Err(failed(&String::from_utf8_lossy(&output.stderr).trim()));
    }
    let content = fs::read(&small).map_err(|error| failed(&error))?;
    fs::remove_file(&small).map_err(|error| failed(&error))?;
    Ok(content)
}

fn find(program: &str, package: &str) -> Result<PathBuf, Failure> {
    PATHS
        .iter()
        .map(|directory| Path::new(directory).join(program))
        .find(|path| path.exists())
        .ok_or_else(|| {
            Failure(format!(
                "missing: {program}; install it with `apt-get install {package}`"
            ))
        })
}

/// What the shell tools are called.
fn applets() -> Result<Vec<String>, Failure> {
    let output = Command::new(find("busybox", "busybox-static")?)
        .arg("--list")
        .output()
        .map_err(|error| Failure(format!("busybox cannot be started: {error}")))?;
    Ok(String::from_utf8_lossy(&output.stdout)
        .lines()
        .map(str::to_owned)
        .collect())
}
