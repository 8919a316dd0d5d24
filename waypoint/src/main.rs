//! The L7 proxy of a namespace, service or service account.
//!
//! ```text
//! HBONE in -> inbound (bound?) -> detect -> http_server -> exchange: head . choose . upstream -> server
//!                                       \-> opaque ------------------> choose . reach ------> server
//! ```

mod activity;
mod answer;
mod body;
mod bounds;
mod choose;
mod client;
mod config;
mod detect;
mod exchange;
mod head;
mod http_server;
mod inbound;
mod opaque;
mod outside;
mod reach;
mod run;
mod tale;
#[cfg(test)]
mod tests;
mod upstream;
mod waypoint;

use std::process::ExitCode;

fn main() -> ExitCode {
    act::process::main("waypoint", run::run)
}
