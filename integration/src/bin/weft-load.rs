//! `weft-load`: what the tests on a cluster run in pods; load that counts exactly, and a server that ends in order.

use std::{net::Ipv6Addr, process::ExitCode};

use act::process::{Failure, main as run_process, shutdown};
use clap::Parser;
use integration::{
    load::{LoadOptions, ServeOptions, generate, serve},
    third::{
        sign::{self, SignOptions},
        tunnel::{self, TunnelOptions},
    },
};
use tokio::net::TcpListener;

/// Load that tells what became of each request, and a server that says who it is.
#[derive(Debug, Parser)]
#[command(name = "weft-load", version)]
enum Cli {
    /// Makes requests and prints one line of JSON for every tick; SIGTERM ends it once all under way are told
    Client(LoadOptions),
    /// Answers HTTP/1.1, HTTP/2 and gRPC health checks; SIGTERM ends it in good order
    Serve(ServeOptions),
    /// Has an identity's certificate signed by the CA, as any holder of a token can
    Sign(SignOptions),
    /// An HBONE client that believes every server, to see what a server believes
    Tunnel(TunnelOptions),
}

fn main() -> ExitCode {
    run_process::<Cli>("weft-load", |cli| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure(format!("the runtime cannot start: {error}")))?;
        runtime.block_on(run(cli))
    })
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let stop = shutdown()?;
    match cli {
        Cli::Client(options) => generate(options, &stop, std::io::stdout()).await,
        Cli::Sign(options) => sign::run(&options).await,
        Cli::Tunnel(options) => tunnel::run(&options).await,
        Cli::Serve(options) => {
            tokio::time::sleep(options.delay).await;
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, options.port))
                .await
                .map_err(|error| Failure(format!("port {} cannot be listened at: {error}", options.port)))?;
            serve(listener, &options, &stop).await;
            Ok(())
        }
    }
}
