//! What a node does, in network namespaces of the tests' own.
#![allow(
    clippy::unwrap_used,
    unreachable_pub,
    missing_docs,
    reason = "tests say what they need by their names, and end at the first surprise"
)]

mod capture;
mod cni;
mod excluded;
mod life;
mod names;
mod near;
mod node;
mod passing;
#[path = "../../src/dns/payments.rs"]
mod payments;
mod probes;
mod proxy;
mod upgrade;
mod world;
