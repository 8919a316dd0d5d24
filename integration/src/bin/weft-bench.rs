//! `weft-bench`: measures the mesh beside its peers, on this machine and in namespaces that are gone when it ends.

use std::process::ExitCode;

use act::process::{Failure, shutdown};
use clap::{Parser, Subcommand};
use integration::{
    bench::{self, BenchOptions, HoldOptions},
    load::{PaceOptions, pace},
    program::{isolated, program},
    show::Screen,
};

/// Direct, HAProxy, Envoy and Weft, the same traffic through each, one table of ratios.
#[derive(Debug, Parser)]
#[command(name = "weft-bench", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    bench: BenchOptions,
    #[command(subcommand)]
    tool: Option<Tool>,
}

/// What the bench runs inside its pods.
#[derive(Debug, Subcommand)]
enum Tool {
    /// Requests at a steady rate; prints how long the answers took
    #[command(hide = true)]
    Pace(PaceOptions),
    /// Connections that say nothing
    #[command(hide = true)]
    Hold(HoldOptions),
}

fn main() -> ExitCode {
    program("weft-bench", run)
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.tool {
        Some(Tool::Pace(options)) => {
            let paced = pace(options).await?;
            let text = serde_json::to_string(&paced).map_err(|error| Failure(error.to_string()))?;
            Screen::new().print(&text);
            Ok(0)
        }
        Some(Tool::Hold(options)) => bench::hold(options, &shutdown()?, std::io::stdout()).await.map(|()| 0),
        None => Box::pin(isolated(bench::run(cli.bench, Screen::new()))).await,
    }
}
