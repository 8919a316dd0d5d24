//! `weft-faults`: what goes wrong in clusters is done to the mesh, on this machine and in namespaces that are gone
//! when it ends; what was lost is told.

use std::process::ExitCode;

use act::process::{Failure, shutdown};
use clap::{Parser, Subcommand};
use integration::{
    bench::{HoldOptions, hold},
    faults::{self, FaultOptions},
    load::{EchoOptions, LoadOptions, echo, generate},
    program::{isolated, program},
    show::Screen,
};

/// Everything that goes wrong, and what is lost by it.
#[derive(Debug, Parser)]
#[command(name = "weft-faults", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    faults: FaultOptions,
    #[command(subcommand)]
    tool: Option<Tool>,
}

/// What is run inside the pods.
#[derive(Debug, Subcommand)]
enum Tool {
    /// HTTP load that tells what became of each request
    #[command(hide = true)]
    Load(LoadOptions),
    /// Connections that say nothing
    #[command(hide = true)]
    Hold(HoldOptions),
    /// A server that says back what it is told
    #[command(hide = true)]
    Echo(EchoOptions),
}

fn main() -> ExitCode {
    program("weft-faults", run)
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.tool {
        Some(Tool::Load(options)) => generate(options, &shutdown()?, std::io::stdout()).await.map(|()| 0),
        Some(Tool::Hold(options)) => hold(options, &shutdown()?, std::io::stdout()).await.map(|()| 0),
        Some(Tool::Echo(options)) => echo(options, &shutdown()?).await.map(|()| 0),
        None => Box::pin(isolated(faults::run(cli.faults, Screen::new()))).await,
    }
}
