//! The node agent that captures pods; called by a container runtime, the CNI plugin that has them captured.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::var_os(ztunnel::cni::plugin::COMMAND).is_some() {
        return ztunnel::cni::plugin::main();
    }
    act::process::main("weft-cni", |options: ztunnel::capture::Options| {
        ztunnel::capture::run(&options)
    })
}
