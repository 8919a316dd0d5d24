//! `weft-e2e`: the promises of the mesh, asserted on a real Kubernetes.

use std::{cell::Cell, process::ExitCode};

use act::process::{Failure, main as run_process, shutdown};
use clap::Parser;
use integration::{e2e, show::Screen};

/// Asserts every promise on a real Kubernetes, prints a table, exits 0 or 1.
///
/// The cluster is the one of `weft-cluster up` (--cluster DIR), or whichever KUBECONFIG points at. What needs the
/// control of nodes or components is not shown on a cluster that is not ours, and counted as such.
#[derive(Debug, Parser)]
#[command(name = "weft-e2e", version)]
struct Cli {
    #[command(flatten)]
    options: e2e::Options,
}

fn main() -> ExitCode {
    let code = Cell::new(ExitCode::SUCCESS);
    let ended = run_process::<Cli>("weft-e2e", |cli| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure(format!("the runtime cannot start: {error}")))?;
        let found = runtime.block_on(async {
            let stop = shutdown()?;
            let screen = Screen::new();
            let ended = stop.run_until_cancelled(e2e::run(&cli.options, &screen)).await;
            ended.unwrap_or(Ok(130))
        });
        code.set(ExitCode::from(found?));
        Ok(())
    });
    if ended == ExitCode::SUCCESS { code.get() } else { ended }
}
