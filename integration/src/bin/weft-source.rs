//! `weft-source`: the same objects through an API server and a directory.

use std::process::ExitCode;

use clap::Parser;
use integration::{program::program, show::Screen, source};

/// Feeds 200 objects, good and bad, through the API server that KUBECONFIG names and through a directory, and asserts
/// that both take the same and amount to the same. Prints a table, exits 0 or 1.
///
/// It makes namespaces of its own and takes them away again. While it feeds misspelt policies, the mesh's admission
/// policies are lifted: use a cluster for tests.
#[derive(Debug, Parser)]
#[command(name = "weft-source", version)]
struct Cli {}

fn main() -> ExitCode {
    program("weft-source", async |_: Cli| source::run(&Screen::new()).await)
}
