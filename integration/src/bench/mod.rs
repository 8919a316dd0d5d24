//! The bench: what comes in is a machine and the mesh's programs, what goes out one table of ratios. The same
//! traffic goes directly, through a pair of HAProxy with mutual TLS, through a pair of Envoy over HBONE, and through
//! ours, in one run, one after the other for each case; never at the same time, and never a time that means anything
//! on another machine.

mod case;
mod certificates;
mod envoy;
mod figures;
mod ground;
mod haproxy;
mod hold;
mod measure;
mod objects;
mod options;
mod picture;
mod readings;
mod rest;
mod run;
mod sheet;
mod subject;
mod targets;
mod usage;

pub use case::{Case, Metric};
pub use figures::{Figures, Told};
pub use hold::{HoldOptions, hold};
pub use options::BenchOptions;
pub use run::run;
pub use subject::Subject;
pub use targets::{Bound, TARGETS, Target};
