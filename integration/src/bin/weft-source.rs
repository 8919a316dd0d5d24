//! `weft-source`: the same objects through an API server and a directory.

use std::{cell::Cell, process::ExitCode};

use act::process::{Failure, main as run_process};
use clap::Parser;
use integration::{show::Screen, source};

/// Feeds 200 objects, good and bad, through the API server that KUBECONFIG names and through a directory, and asserts
/// that both take the same and amount to the same. Prints a table, exits 0 or 1.
///
/// It makes namespaces of its own and takes them away again. While it feeds misspelt policies, the mesh's admission
/// policies are lifted: use a cluster for tests.
#[derive(Debug, Parser)]
#[command(name = "weft-source", version)]
struct Cli {}

fn main() -> ExitCode {
    let code = Cell::new(ExitCode::SUCCESS);
    let ended = run_process::<Cli>("weft-source", |_| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure(format!("the runtime cannot start: {error}")))?;
        code.set(ExitCode::from(runtime.block_on(source::run(&Screen::new()))?));
        Ok(())
    });
    if ended == ExitCode::SUCCESS { code.get() } else { ended }
}
