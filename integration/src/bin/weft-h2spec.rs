//! `weft-h2spec`: h2spec judges the HTTP/2 of port 15008, on this machine and in namespaces that are gone when it ends.

use std::process::ExitCode;

use act::process::{Failure, shutdown};
use clap::{Parser, Subcommand};
use integration::{
    h2spec::{self, H2specOptions},
    program::{isolated, program},
    show::Screen,
    third::{
        bridge::{BridgeOptions, bridge},
        sign::{self, SignOptions},
    },
};

/// What h2spec says of our HTTP/2.
#[derive(Debug, Parser)]
#[command(name = "weft-h2spec", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    judge: H2specOptions,
    #[command(subcommand)]
    tool: Option<Tool>,
}

/// What is run inside the pods.
#[derive(Debug, Subcommand)]
enum Tool {
    /// Leads plain HTTP/2 into a server of HBONE
    #[command(hide = true)]
    Bridge(BridgeOptions),
    /// Has an identity's certificate signed by the CA
    #[command(hide = true)]
    Sign(SignOptions),
}

fn main() -> ExitCode {
    program("weft-h2spec", run)
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.tool {
        Some(Tool::Bridge(options)) => bridge(options, &shutdown()?).await.map(|()| 0),
        Some(Tool::Sign(options)) => sign::run(&options).await.map(|()| 0),
        None => Box::pin(isolated(h2spec::run(cli.judge, Screen::new()))).await,
    }
}
