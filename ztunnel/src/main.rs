//! The L4 proxy of a node.

use std::process::ExitCode;

fn main() -> ExitCode {
    act::process::main("ztunnel", |options: ztunnel::node::Options| {
        ztunnel::node::run(&options)
    })
}
