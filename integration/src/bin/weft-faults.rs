//! `weft-faults`: what goes wrong in clusters is done to the mesh, on this machine and in namespaces that are gone
//! when it ends; what was lost is told.

use std::process::ExitCode;

use act::process::{Failure, main as run_process, shutdown};
use clap::{Parser, Subcommand};
use integration::{
    bench::{HoldOptions, hold},
    faults::{self, FaultOptions},
    isolate,
    load::{LoadOptions, generate},
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
}

fn main() -> ExitCode {
    let code = std::cell::Cell::new(ExitCode::SUCCESS);
    let ended = run_process::<Cli>("weft-faults", |cli| {
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
        Some(Tool::Load(options)) => generate(options, &shutdown()?, std::io::stdout()).await.map(|()| 0),
        Some(Tool::Hold(options)) => hold(options, &shutdown()?, std::io::stdout()).await.map(|()| 0),
        None if isolate::inside() => {
            let done = faults::run(cli.faults, Screen::new());
            // With this process, the first of its namespace, everything else ends.
            shutdown()?.run_until_cancelled(done).await.unwrap_or(Ok(130))
        }
        None => isolate::enter().await,
    }
}
