//! Addresses of the hosts that ExternalServices name, for connections that go there.
//!
//! In: a host. Out: its addresses, as a name server says, kept for as long as it says within bounds. Never: a name of
//! the cluster, or what a pod itself asks.

mod ask;
mod cache;
pub mod fuzzing;

use crate::telemetry::Bound;

pub use ask::over_network;
pub use cache::{Ask, Found, Resolver};

/// Names of ExternalServices that are resolved.
pub const NAMES: Bound = Bound::refusing("resolved-names", "names outside the cluster are known");
