//! `ca`: signs the identities of the mesh.

use std::process::ExitCode;

use act::{config::directory, process::Failure};
use ca::options::Options;
use decide::model::MeshSettings;

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
        let defaults = MeshSettings {
            trust_domain: options.trust_domain.as_str().into(),
            ..MeshSettings::default()
        };
        let reader =
            directory::watch(&options.config, defaults).map_err(|error| Failure(format!("--config: {error}")))?;
        ca::run::run(options, reader, logs).await
    })
}
