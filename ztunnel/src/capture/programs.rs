//! The programs by which the kernel is told: `nft` (nftables) and `ip` (iproute2), run inside a namespace.

use std::{io, process::Stdio, time::Duration};

use act::net::Netns;
use tokio::{
    io::AsyncWriteExt,
    process::{Child, Command},
    time::timeout,
};

/// How long one run may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a program did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is not installed.
    #[error("the program {program} is missing: install {package}")]
    Missing {
        /// Which.
        program: &'static str,
        /// Where it comes from.
        package: &'static str,
    },
    /// It could not be started, or the namespace not be entered.
    #[error("{program} cannot be run: {why}")]
    NotRun {
        /// Which.
        program: &'static str,
        /// What the system says.
        why: io::Error,
    },
    /// It was refused the privilege.
    #[error(
        "{program} is not permitted to change the network: run weft-cni with CAP_NET_ADMIN and CAP_SYS_ADMIN ({said})"
    )]
    NotPermitted {
        /// Which.
        program: &'static str,
        /// Its words.
        said: String,
    },
    /// It failed.
    #[error("{program} failed: {said}")]
    Failed {
        /// Which.
        program: &'static str,
        /// Its words.
        said: String,
    },
    /// It did not end.
    #[error("{0} did not end within {PATIENCE:?}")]
    Stuck(&'static str),
}

/// Applies a script as one transaction.
///
/// # Errors
/// [`ProgramError`]; nothing of the script is in force then.
pub(super) async fn nft(netns: &Netns, script: &str) -> Result<String, ProgramError> {
    run(netns, "nft", &["-f", "-"], script).await
}

/// Asks nftables something.
///
/// # Errors
/// [`ProgramError`].
pub(super) async fn nft_tells(netns: &Netns, arguments: &[&str]) -> Result<String, ProgramError> {
    run(netns, "nft", arguments, "").await
}

/// Changes routes or rules. What is there already, or gone already, is as good.
///
/// # Errors
/// [`ProgramError`].
pub(super) async fn ip(netns: &Netns, arguments: &[&str]) -> Result<(), ProgramError> {
    match run(netns, "ip", arguments, "").await {
        Err(ProgramError::Failed { said, .. })
            if ["File exists", "No such file or directory", "No such process"]
                .iter()
                .any(|fine| said.contains(fine)) =>
        {
            Ok(())
        }
        other => other.map(drop),
    }
}

/// Asks iproute2 something.
///
/// # Errors
/// [`ProgramError`].
pub(super) async fn ip_tells(netns: &Netns, arguments: &[&str]) -> Result<String, ProgramError> {
    run(netns, "ip", arguments, "").await
}

/// Checks that both programs are there.
///
/// # Errors
/// [`ProgramError::Missing`].
pub async fn check() -> Result<(), ProgramError> {
    run(&Netns::own(), "nft", &["--version"], "").await?;
    run(&Netns::own(), "ip", &["-V"], "").await?;
    Ok(())
}

async fn run(netns: &Netns, program: &'static str, arguments: &[&str], input: &str) -> Result<String, ProgramError> {
    let not_run = |why| ProgramError::NotRun { program, why };
    // a child lives in the namespace its parent's thread is in when it is made
    let child = netns
        .run(|| spawn(program, arguments))
        .map_err(|why| match why.kind() {
            io::ErrorKind::NotFound => ProgramError::Missing {
                program,
                package: if program == "nft" { "nftables" } else { "iproute2" },
            },
            _ => not_run(why),
        })?;
    let ended = timeout(PATIENCE, converse(child, input))
        .await
        .map_err(|_| ProgramError::Stuck(program))?
        .map_err(not_run)?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = first_words(&ended.stderr);
    Err(if said.contains("Operation not permitted") {
        ProgramError::NotPermitted { program, said }
    } else {
        ProgramError::Failed { program, said }
    })
}

fn spawn(program: &str, arguments: &[&str]) -> io::Result<Child> {
    Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

async fn converse(mut child: Child, input: &str) -> io::Result<std::process::Output> {
    if let Some(mut stdin) = child.stdin.take() {
        // a program that does not read its input to the end says why on its way out
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    child.wait_with_output().await
}

/// At most 400 characters of what a program said, on one line.
fn first_words(said: &[u8]) -> String {
    let said = String::from_utf8_lossy(said);
    let words: Vec<&str> = said.split_whitespace().collect();
    words.join(" ").chars().take(400).collect()
}
