//! What the project's own test programs start with. Comes in: a command line and a future. Goes out: an exit code.

use std::{cell::Cell, process::ExitCode};

use act::process::{Failure, main, shutdown};
use clap::Parser;

use crate::isolate;

/// What a program ends with that was asked to stop.
const STOPPED: u8 = 130;

/// Parses the command line and runs a program on a runtime of its own; its exit code is the answer, or 1 with one line
/// on standard error when it failed.
pub fn program<C: Parser, F>(name: &str, run: impl FnOnce(C) -> F) -> ExitCode
where
    F: Future<Output = Result<u8, Failure>>,
{
    let code = Cell::new(ExitCode::SUCCESS);
    let ended = main::<C>(name, |cli| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure(format!("the runtime cannot start: {error}")))?;
        code.set(ExitCode::from(runtime.block_on(run(cli))?));
        Ok(())
    });
    if ended == ExitCode::SUCCESS { code.get() } else { ended }
}

/// Runs to the end, or until the program is asked to stop: then the answer is 130.
///
/// # Errors
/// Those of the future, and when signals cannot be listened for.
pub async fn until_stopped(done: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    shutdown()?.run_until_cancelled(done).await.unwrap_or(Ok(STOPPED))
}

/// As [`until_stopped`], inside namespaces of its own: with this program, the first of its process namespace,
/// everything else ends.
///
/// # Errors
/// Those of [`until_stopped`] and of [`isolate::enter`].
pub async fn isolated(done: impl Future<Output = Result<u8, Failure>>) -> Result<u8, Failure> {
    match isolate::inside() {
        true => until_stopped(done).await,
        false => isolate::enter().await,
    }
}
