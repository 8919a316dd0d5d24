//! The test world: two nodes and their pods as network namespaces of this machine, real programs in them, a
//! packet capture on the link between the nodes, and what can be read off it all. The demo shows it, the check
//! asserts it; the same promises on a real Kubernetes (`e2e`). Never: anything that leaves the namespaces it made.

pub mod bench;
pub mod check;
pub mod cluster;
pub mod e2e;
pub mod faults;
pub mod h2spec;
pub mod images;
pub mod isolate;
pub mod load;
pub mod observe;
pub mod program;
pub mod show;
pub mod source;
pub mod third;
pub mod world;
