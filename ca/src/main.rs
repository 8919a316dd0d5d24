//! `ca`: signs the identities of the mesh.

use std::process::ExitCode;

use act::{config::kubernetes::Scope, process::Failure};
use ca::options::Options;

fn main() -> ExitCode {
    act::process::main("ca", start)
}

fn start(options: Options) -> Result<(), Failure> {
    let logs = options.logs.start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure(format!("the runtime cannot be started: {error}")))?;
    runtime.block_on(async {
        let reader = options.source.watch(Scope::Authority)?;
        ca::run::run(options, reader, logs).await
    })
}
