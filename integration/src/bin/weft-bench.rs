//! `weft-bench`: measures the mesh beside its peers, on this machine and in namespaces that are gone when it ends.

use std::process::ExitCode;

use act::process::{Failure, main as run_process, shutdown};
use clap::{Parser, Subcommand};
use integration::{
    bench::{self, BenchOptions, HoldOptions},
    isolate,
    load::{PaceOptions, pace},
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
    let code = std::cell::Cell::new(ExitCode::SUCCESS);
    let ended = run_process::<Cli>("weft-bench", |cli| {
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
        Some(Tool::Pace(options)) => {
            let paced = pace(options).await?;
            let text = serde_json::to_string(&paced).map_err(|error| Failure(error.to_string()))?;
            Screen::new().print(&text);
            Ok(0)
        }
        Some(Tool::Hold(options)) => bench::hold(options, &shutdown()?, std::io::stdout()).await.map(|()| 0),
        None if isolate::inside() => {
            let measured = bench::run(cli.bench, Screen::new());
            // With this process, the first of its namespace, everything else ends.
            shutdown()?.run_until_cancelled(measured).await.unwrap_or(Ok(130))
        }
        None => isolate::enter().await,
    }
}
