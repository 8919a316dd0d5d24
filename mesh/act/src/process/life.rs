//! Start and end of a process.

use std::{fmt, process::ExitCode};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::SourceError;

/// Why a process cannot start or go on: one plain sentence, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(pub String);

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self(error.to_string())
    }
}

/// Parses the command line and runs a process. A failure is one line on standard error and exit code 1; a wrong
/// command line is clap's own message and exit code 2.
pub fn main<C: Parser>(name: &str, run: impl FnOnce(C) -> Result<(), Failure>) -> ExitCode {
    match run(C::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// A token that is cancelled by SIGTERM or SIGINT. A second signal ends the process at once with 130.
///
/// # Errors
/// When signals cannot be listened for.
pub fn shutdown() -> Result<CancellationToken, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure(format!("signals cannot be listened for: {error}")));
    let (mut term, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
            if first {
                tracing::info!("asked to stop: draining");
                cancel.cancel();
            } else {
                std::process::exit(130);
            }
        }
    });
    Ok(token)
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Self(sentence)
    }
}
