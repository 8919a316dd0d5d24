//! The node agent that captures pods.

use std::process::ExitCode;

fn main() -> ExitCode {
    act::process::main("weft-cni", |options: ztunnel::capture::Options| {
        ztunnel::capture::run(&options)
    })
}
