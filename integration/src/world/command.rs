//! Runs one program to its end, within a deadline.

use std::{process::Stdio, time::Duration};

use act::process::Failure;
use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

/// The longest a program of the world's own plumbing (`ip`, `nft` …) may take.
const PLUMBING: Duration = Duration::from_secs(20);

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Exit code; `None` when a signal ended it, or the deadline.
    pub code: Option<i32>,
    /// What it wrote to standard output.
    pub stdout: String,
    /// What it wrote to standard error.
    pub stderr: String,
    /// Whether the deadline ended it.
    pub late: bool,
}

impl Finished {
    /// Whether it ended by itself with exit code 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }
}

/// Runs a program of the world's own plumbing and answers what it printed.
///
/// # Errors
/// One sentence with what the program said, when it is missing, fails or takes longer than 20 s.
pub async fn run(words: &[&str]) -> Result<String, Failure> {
    run_with_input(words, "").await
}

/// As [`run`], with standard input.
///
/// # Errors
/// As [`run`].
pub(super) async fn run_with_input(words: &[&str], input: &str) -> Result<String, Failure> {
    let finished = finish(words, input, PLUMBING).await?;
    if finished.success() {
        return Ok(finished.stdout);
    }
    let said = finished.stderr.trim();
    let end = if finished.late {
        "took longer than 20 s".to_owned()
    } else {
        format!("failed: {}", if said.is_empty() { "without a word" } else { said })
    };
    Err(Failure(format!("`{}` {end}", words.join(" "))))
}

/// Runs any program until it ends or the deadline kills it. Output is kept as text, at most 64 MiB of each.
///
/// # Errors
/// When it cannot be started.
pub(crate) async fn finish(words: &[&str], input: &str, deadline: Duration) -> Result<Finished, Failure> {
    let (program, args) = words
        .split_first()
        .ok_or_else(|| Failure("no program was named".into()))?;
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure(format!("`{program}` cannot be started: {error}")))?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read its input ends the pipe early, which is its own affair.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    match timeout(deadline, child.wait_with_output()).await {
        Ok(Ok(output)) => Ok(Finished {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            late: false,
        }),
        Ok(Err(error)) => Err(Failure(format!("`{program}` cannot be waited for: {error}"))),
        Err(_) => Ok(Finished {
            code: None,
            stdout: String::new(),
            stderr: String::new(),
            late: true,
        }),
    }
}

/// The first line of a text that is not blank, for one-sentence messages.
pub fn first_line(text: &str) -> &str {
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_carries_what_the_program_said() {
        let failure = run(&["sh", "-c", "echo no such thing >&2; exit 3"]).await.unwrap_err();
        assert!(failure.0.ends_with("failed: no such thing"), "{failure}");
    }

    #[tokio::test]
    async fn a_deadline_ends_a_program() {
        let finished = finish(&["sleep", "60"], "", Duration::from_millis(50)).await.unwrap();
        assert!(finished.late && !finished.success());
    }
}
