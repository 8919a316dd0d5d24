//! What a kubelet does for a pod: its volumes, its hosts file, its programs.

use std::{
    fs,
    path::{Path, PathBuf},
};

use act::process::Failure;

use super::{
    network::namespace,
    objects::{Container, Objects, Pod},
    processes::Launch,
    run::RunDirectory,
    services::hosts,
};

/// Takes the pod's name, binds pairs of paths over one another until `--`, then becomes the program.
const BIND: &str = r#"hostname "$1"; cd_to=$2; shift 2
while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 125; shift 2; done
shift; cd "$cd_to" || exit 125; exec "$@""#;

/// Where a pod's programs are looked for.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Writes a pod's hosts file and the files of its volumes.
///
/// # Errors
/// When a file cannot be written.
pub(super) fn furnish(pod: &Pod, objects: &Objects, run: &RunDirectory) -> Result<(), Failure> {
    let home = home(pod, run);
    let failed = |error: std::io::Error| Failure(format!("{} cannot be written: {error}", home.display()));
    fs::create_dir_all(&home).map_err(failed)?;
    // In place: running programs have this very file mounted over /etc/hosts.
    write_if_new(&home.join("hosts"), &hosts(objects, pod)).map_err(failed)?;
    for volume in &pod.spec.volumes {
        let directory = home.join("volumes").join(&volume.name);
        fs::create_dir_all(&directory).map_err(failed)?;
        let Some(named) = &volume.config_map else { continue };
        let key = format!("{}/{}", pod.namespace, named.name);
        let files = objects.config_maps.get(&key).ok_or_else(|| {
            Failure(format!(
                "Pod {} mounts ConfigMap {key}, which does not exist",
                pod.key()
            ))
        })?;
        for (name, text) in files {
            write_if_new(&directory.join(name), text).map_err(failed)?;
        }
    }
    Ok(())
}

/// The words that lead a program into a pod: its network, its hosts file, and the volumes of one container.
pub(super) fn enter(pod: &Pod, container: Option<&Container>, run: &RunDirectory) -> Vec<String> {
    let home = home(pod, run);
    let mut words: Vec<String> = vec![
        "nsenter".into(),
        format!("--net=/run/netns/{}", namespace(pod)),
        "--".into(),
    ];
    words.extend(
        [
            "unshare",
            "--uts",
            "--mount",
            "--propagation",
            "slave",
            "--",
            "sh",
            "-c",
            BIND,
            "sh",
        ]
        .map(Into::into),
    );
    let directory = container.and_then(|it| it.working_dir.clone());
    words.extend([pod.name.clone(), directory.unwrap_or_else(|| "/".into())]);
    words.extend([home.join("hosts").display().to_string(), "/etc/hosts".into()]);
    for mount in container.iter().flat_map(|it| &it.volume_mounts) {
        words.push(home.join("volumes").join(&mount.name).display().to_string());
        words.push(mount.mount_path.display().to_string());
    }
    words.extend(["--", "env", "-i", PATH].map(Into::into));
    words
}

/// How each container of a pod is started.
pub(super) fn launches(pod: &Pod, run: &RunDirectory) -> Vec<Launch> {
    let name = |index: usize, container: &Container| match index {
        0 => pod.short_name(),
        _ => format!("{}.{}", pod.short_name(), container.name),
    };
    let containers = pod.spec.containers.iter().enumerate();
    containers
        .filter(|(_, container)| !container.command.is_empty())
        .map(|(index, container)| {
            let mut words = enter(pod, Some(container), run);
            words.extend(container.command.iter().chain(&container.args).cloned());
            let name = name(index, container);
            Launch {
                log: run.log(&name),
                name,
                words,
            }
        })
        .collect()
}

/// Whoever reads a file that stays as it is never finds it half written.
fn write_if_new(path: &Path, text: &str) -> std::io::Result<()> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    fs::write(path, text)
}

fn home(pod: &Pod, run: &RunDirectory) -> PathBuf {
    run.join("pods").join(pod.short_name())
}
