//! `weft-h2spec`: h2spec judges the HTTP/2 of port 15008, on this machine and in namespaces that are gone when it ends.

use std::process::ExitCode;

use act::process::{Failure, main as run_process, shutdown};
use clap::{Parser, Subcommand};
use integration::{
    h2spec::{self, H2specOptions},
    isolate,
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
    let code = std::cell::Cell::new(ExitCode::SUCCESS);
    let ended = run_process::<Cli>("weft-h2spec", |cli| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure(format!("the runtime cannot start: {error}")))?;
        code.set(ExitCode::from(runtime.block_on(run(cli))?));
        Ok(())
    });
    if ended == ExitCode::SUCCESS { code.get() } else { ended }
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.tool {
        Some(Tool::Bridge(options)) => bridge(options, &shutdown()?).await.map(|()| 0),
        Some(Tool::Sign(options)) => sign::run(&options).await.map(|()| 0),
        None if isolate::inside() => {
            let done = h2spec::run(cli.judge, Screen::new());
            // With this process, the first of its namespace, everything else ends.
            shutdown()?.run_until_cancelled(done).await.unwrap_or(Ok(130))
        }
        None => isolate::enter().await,
    }
}
