//! `weft-e2e`: the promises of the mesh on a real Kubernetes. Comes in: a cluster, by a kubeconfig or by the project's
//! own tool. Goes out: one row per assertion, and on a failure what the mesh's pods said. Never: a promise that could
//! not be tried counted as kept.

mod around;
mod artefacts;
mod barrier;
mod both_ways;
mod churn;
mod cluster;
mod commands;
mod control;
mod fenced;
mod first_request;
mod forge;
mod ground;
mod ingress;
mod kept;
mod load;
mod manifests;
mod measure;
mod mesh;
mod outage;
mod outsider;
mod probes;
mod reach;
mod reboot;
mod rollouts;
mod sample;
mod smoke;
mod stage;
mod standing;
mod static_pod;
mod strict;
mod suite;
mod through_waypoint;
mod tokens;
mod tools;
mod transcripts;
mod uninstall;
mod wire;

pub use control::Component;
pub use reach::{Reach, ReachOptions};
pub use suite::{Options, run};
