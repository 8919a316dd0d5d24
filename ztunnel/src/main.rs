//! The L4 proxy of a node.

use std::process::ExitCode;

/// What ten thousand connections leave behind goes back to the node: glibc's allocator keeps nearly all of it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    act::process::main("ztunnel", |options: ztunnel::node::Options| {
        ztunnel::node::run(&options)
    })
}
