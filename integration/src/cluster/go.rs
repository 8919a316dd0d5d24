//! Programs that no Debian package has: built by the Go toolchain from the small modules in `integration/cluster`, once
//! for each version of a module, and kept in the user's cache.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use act::process::Failure;

/// The module's files that decide what is built; only the first must be there.
const SOURCES: [&str; 3] = ["go.mod", "go.sum", "main.go"];

/// Builds a Go module of the test cluster unless that is done, and answers where its program is. `say` is told before
/// a build that takes minutes.
///
/// # Errors
/// Names the module, and what Go said.
pub fn build(module: &Path, say: &dyn Fn(&str)) -> Result<PathBuf, Failure> {
    let name = module.file_name().and_then(|name| name.to_str()).unwrap_or("program");
    let failed = |error: &dyn std::fmt::Display| Failure(format!("{} cannot be built: {error}", module.display()));
    let mut sources = Vec::new();
    for file in SOURCES {
        let path = module.join(file);
        match fs::read_to_string(&path) {
            Ok(text) => sources.push(text),
            Err(error) if file == "go.mod" => return Err(failed(&format_args!("{}: {error}", path.display()))),
            Err(_) => {}
        }
    }
    let go_mod = sources.first().map_or("", String::as_str);
    let cached = cache().ok_or_else(|| failed(&"neither XDG_CACHE_HOME nor HOME is set"))?;
    let program = cached.join(format!("{name}-{:016x}", hash(&sources)));
    if program.exists() {
        return Ok(program);
    }
    if !on_path("go") {
        return Err(failed(&"`go` is missing; install Go 1.24 or newer (https://go.dev/dl)"));
    }
    fs::create_dir_all(&cached).map_err(|error| failed(&error))?;
    say(&format!("building {name}: some minutes, once"));
    let new = program.with_extension("new");
    let output = Command::new("go")
        .args(["build", "-trimpath", "-ldflags", &flags(go_mod), "-o"])
        .arg(&new)
        .arg(tool(go_mod).unwrap_or("."))
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .output()
        .map_err(|error| failed(&error))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(&said.trim()));
    }
    fs::rename(&new, &program).map_err(|error| failed(&error))?;
    Ok(program)
}

/// The version a `go.mod` requires of a module.
fn required<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next()).flatten()
    })
}

/// The package of another module that a module builds, where it has none of its own.
fn tool(go_mod: &str) -> Option<&str> {
    go_mod
        .lines()
        .find_map(|line| line.strip_prefix("tool ").map(str::trim))
}

/// The linker's flags: programs are told their version, which they would otherwise not know.
fn flags(go_mod: &str) -> String {
    let mut flags = "-s -w".to_owned();
    let mut set = |name: &str, value: &str| flags.push_str(&format!(" -X {name}={value}"));
    if let Some(version) = required(go_mod, "k8s.io/kubernetes") {
        let mut numbers = version.trim_start_matches('v').split('.');
        set("k8s.io/component-base/version.gitVersion", version);
        set("k8s.io/component-base/version.gitMajor", numbers.next().unwrap_or(""));
        set("k8s.io/component-base/version.gitMinor", numbers.next().unwrap_or(""));
    }
    if let Some(version) = required(go_mod, "helm.sh/helm/v3") {
        set("helm.sh/helm/v3/internal/version.version", version);
    }
    flags
}

fn cache() -> Option<PathBuf> {
    let base = env::var_os("XDG_CACHE_HOME")
        .filter(|it| !it.is_empty())
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cache")))?;
    Some(base.join("weft").join("cluster"))
}

fn on_path(program: &str) -> bool {
    env::var_os("PATH").is_some_and(|path| env::split_paths(&path).any(|directory| directory.join(program).exists()))
}

/// FNV-1a: the name of a build must not change with the compiler.
fn hash(texts: &[String]) -> u64 {
    texts
        .iter()
        .flat_map(|text| text.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_one_the_module_requires() {
        let text = "module x\n\nrequire (\n\tk8s.io/kubectl v0.34.4\n\tk8s.io/kubernetes v1.34.4\n)\n";
        assert_eq!(required(text, "k8s.io/kubernetes"), Some("v1.34.4"));
        assert_eq!(
            required("require k8s.io/kubernetes v1.35.0", "k8s.io/kubernetes"),
            Some("v1.35.0")
        );
        assert_eq!(required(text, "k8s.io/api"), None);
        assert!(flags(text).ends_with("gitMinor=34"));
    }

    #[test]
    fn another_source_is_another_build() {
        assert_ne!(hash(&["a".into()]), hash(&["b".into()]));
    }
}
