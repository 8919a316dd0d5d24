//! `weft-e2e`: the promises of the mesh, asserted on a real Kubernetes.

use std::process::ExitCode;

use clap::Parser;
use integration::{
    e2e,
    program::{program, until_stopped},
    show::Screen,
};

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
    program("weft-e2e", async |cli: Cli| {
        Box::pin(until_stopped(e2e::run(&cli.options, &Screen::new()))).await
    })
}
