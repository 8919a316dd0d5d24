//! Runs this very program again inside mount, network and process namespaces of its own, so that everything it
//! makes vanishes with it: on success, Ctrl-C, crash and SIGKILL. An ordinary user gets a user namespace around.

use std::{env, path::Path, process::Stdio, time::Duration};

use act::process::Failure;
use tokio::{
    process::Command,
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// Set inside.
const INSIDE: &str = "WEFT_DEMO_INSIDE";
/// How long the inner program has after Ctrl-C to end by itself.
const GRACE: Duration = Duration::from_secs(2);

/// Programs that the world needs, and the Debian packages they come in.
const PROGRAMS: [(&str, &str); 14] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setpriv", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("bridge", "iproute2"),
    ("hostname", "hostname"),
    ("sysctl", "procps"),
    ("nft", "nftables"),
    ("tcpdump", "tcpdump"),
    ("nginx", "nginx-light"),
    ("python3", "python3"),
    ("curl", "curl"),
    ("wrk", "wrk"),
];

/// Whether this process is the inner one.
pub fn inside() -> bool {
    env::var_os(INSIDE).is_some()
}

/// Runs this program again inside, with the same arguments, and answers its exit code.
///
/// # Errors
/// One sentence with the remedy, when a program or a privilege is missing.
pub async fn enter() -> Result<u8, Failure> {
    programs_are_there()?;
    namespaces_are_allowed().await?;
    let exe = env::current_exe().map_err(|error| Failure(format!("this program cannot be found: {error}")))?;
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "--", "unshare"])
        .args(flags())
        .arg("--")
        .arg(exe)
        .args(env::args_os().skip(1))
        .env(INSIDE, "1")
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure(format!("setpriv cannot be started: {error}")))?;
    let listen = |kind| signal(kind).map_err(|error| Failure(format!("signals cannot be listened for: {error}")));
    let (mut interrupt, mut term) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hang_up = listen(SignalKind::hangup())?;
    let ended = tokio::select! {
        ended = child.wait() => Some(ended),
        // From a terminal the inner program hears it too.
        _ = interrupt.recv() => timeout(GRACE, child.wait()).await.ok(),
        _ = term.recv() => None,
        _ = hang_up.recv() => None,
    };
    match ended {
        Some(Ok(status)) => Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)),
        Some(Err(error)) => Err(Failure(format!("the inner program cannot be waited for: {error}"))),
        None => {
            let _ = child.kill().await;
            Ok(130)
        }
    }
}

fn flags() -> Vec<&'static str> {
    let mut flags = vec!["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !rustix::process::geteuid().is_root() {
        flags.extend(["--user", "--map-root-user"]);
    }
    flags
}

fn programs_are_there() -> Result<(), Failure> {
    let missing: Vec<_> = PROGRAMS.into_iter().filter(|(program, _)| !found(program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = missing.iter().map(|(program, _)| *program).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_, package)| *package).collect();
    packages.dedup();
    Err(Failure(format!(
        "missing: {}; install it with `apt-get install {}`",
        names.join(", "),
        packages.join(" ")
    )))
}

/// Whether a program is in one of the usual places.
pub fn found(program: &str) -> bool {
    [
        "/usr/sbin",
        "/usr/bin",
        "/sbin",
        "/bin",
        "/usr/local/sbin",
        "/usr/local/bin",
    ]
    .iter()
    .any(|directory| Path::new(directory).join(program).exists())
}

async fn namespaces_are_allowed() -> Result<(), Failure> {
    let tried = Command::new("unshare")
        .args(flags())
        .args(["--", "true"])
        .stdin(Stdio::null())
        .output()
        .await
        .map_err(|error| Failure(format!("unshare cannot be started: {error}")))?;
    if tried.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&tried.stderr);
    Err(Failure(format!(
        "namespaces cannot be made here ({}); run it as root, or allow user namespaces: \
         `sysctl -w user.max_user_namespaces=10000 kernel.apparmor_restrict_unprivileged_userns=0`",
        crate::world::first_line(&said)
    )))
}
