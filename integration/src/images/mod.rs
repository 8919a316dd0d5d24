//! Container images without a registry and without a container engine: a root file system of programs and the
//! libraries they need, as one layer of an OCI archive that `ctr images import` and `docker load` read. The same inputs
//! give the same bytes.

mod archive;
mod catalog;
mod libraries;
mod root;

pub use archive::{Image, write};
pub use catalog::{ImagesOptions, build, coredns, pause};
pub use root::Root;
