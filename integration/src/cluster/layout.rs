//! What a cluster is made of and where: its directory, its machines, its addresses. From a directory and a number of
//! nodes; everything here is pure.

use std::path::{Path, PathBuf};

use act::process::Failure;

/// Longest path of a Unix socket (`sun_path`), less the longest file name we put there.
const LONGEST: usize = 107 - 20;
/// More nodes than this have no address.
pub(super) const MOST_NODES: u8 = 9;
/// The control plane's name as a machine.
pub(super) const CONTROL_PLANE: &str = "control-plane";
/// The control plane's addresses; the API server listens on port 6443 of them.
pub(super) const CONTROL_PLANE_ADDRESSES: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// Where the API server is reached.
pub(super) const API_SERVER: &str = "https://10.77.0.1:6443";
/// Addresses of pods, both families.
pub(super) const POD_RANGES: &str = "10.244.0.0/16,fd00:10:244::/56";
/// Addresses of Services, both families.
pub(super) const SERVICE_RANGES: &str = "10.96.0.0/16,fd00:10:96::/112";
/// The API server's own Service.
pub(super) const API_SERVICE: &str = "10.96.0.1";
/// The cluster's DNS, both families.
pub(super) const DNS: [&str; 2] = ["10.96.0.10", "fd00:10:96::a"];

/// A cluster's directory and the names in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    directory: PathBuf,
}

/// A node of a cluster, counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Node(u8);

impl Layout {
    /// The layout of a directory.
    ///
    /// # Errors
    /// When its path is too long for the Unix sockets in it.
    pub fn new(directory: &Path) -> Result<Self, Failure> {
        let directory = std::path::absolute(directory)
            .map_err(|error| Failure(format!("{} cannot be resolved: {error}", directory.display())))?;
        if directory.as_os_str().len() > LONGEST {
            return Err(Failure(format!(
                "the path {} is longer than {LONGEST} bytes, too long for Unix sockets in it; choose another with --dir",
                directory.display()
            )));
        }
        Ok(Self { directory })
    }

    /// The cluster's directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// A path in the directory.
    pub fn join(&self, part: impl AsRef<Path>) -> PathBuf {
        self.directory.join(part)
    }

    /// The cluster's name, one for each directory, so that clusters of different directories share no cgroup.
    pub fn name(&self) -> String {
        // FNV-1a: a name must not change with the compiler.
        let hash = self
            .directory
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
            });
        format!("weft-{hash:08x}")
    }

    /// The control socket of a machine.
    pub fn socket(&self, machine: &str) -> PathBuf {
        self.join(format!("{machine}.sock"))
    }

    /// What a machine is to be and to run.
    pub fn spec(&self, machine: &str) -> PathBuf {
        self.join(format!("{machine}.json"))
    }

    /// The root file system of a node.
    pub fn root(&self, node: Node) -> PathBuf {
        self.join("nodes").join(node.name())
    }

    /// The log of a component, as seen from outside its machine.
    pub fn log(&self, machine: &str, component: &str) -> PathBuf {
        let logs = match Node::named(machine) {
            Some(node) => self.root(node).join("var/log"),
            None => self.join("logs"),
        };
        logs.join(format!("{component}.log"))
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.join("admin.kubeconfig")
    }

    /// The cgroup of a node below each hierarchy's root, without the leading slash. Its pods live below it, and its
    /// kubelet in the child `kubelet`.
    pub fn cgroup(&self, node: Node) -> String {
        format!("{}-{}", self.name(), node.name())
    }

    /// The nodes whose files are there.
    pub fn nodes(&self) -> Vec<Node> {
        Node::first(MOST_NODES)
            .filter(|node| self.root(*node).exists())
            .collect()
    }

    /// The Kubernetes programs.
    pub fn programs(&self) -> PathBuf {
        self.join("bin")
    }
}

impl Node {
    /// The first nodes of a cluster.
    pub fn first(count: u8) -> impl Iterator<Item = Self> {
        (1..=count.min(MOST_NODES)).map(Self)
    }

    /// The node of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::first(MOST_NODES).find(|node| node.name() == name)
    }

    /// Its name, which is also that of its machine and its network namespace.
    pub fn name(self) -> String {
        format!("node{}", self.0)
    }

    /// Its addresses on the cluster's switch.
    pub fn addresses(self) -> [String; 2] {
        [format!("10.77.0.1{}", self.0), format!("fd77::1{}", self.0)]
    }

    /// The ranges its pods' addresses come from.
    pub fn pods(self) -> [String; 2] {
        [
            format!("10.244.{}.0/24", self.0),
            format!("fd00:10:244:{}::/64", self.0),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_of_different_directories_share_no_name() {
        let name = |path: &str| Layout::new(Path::new(path)).unwrap().name();
        assert_eq!(name("/a/cluster"), name("/a/cluster"));
        assert_ne!(name("/a/cluster"), name("/b/cluster"));
    }

    #[test]
    fn a_directory_too_deep_for_sockets_is_refused_with_the_remedy() {
        let failure = Layout::new(Path::new(&format!("/{}", "x".repeat(120)))).unwrap_err();
        assert!(failure.0.ends_with("choose another with --dir"), "{failure}");
    }

    #[test]
    fn nodes_are_found_by_name_and_share_no_address() {
        let nodes: Vec<_> = Node::first(MOST_NODES).collect();
        assert_eq!(nodes.len(), usize::from(MOST_NODES));
        for node in &nodes {
            assert_eq!(Node::named(&node.name()), Some(*node));
            for other in nodes.iter().filter(|other| *other != node) {
                assert_ne!(node.addresses(), other.addresses());
                assert_ne!(node.pods(), other.pods());
            }
        }
        assert_eq!(Node::named("node0"), None);
    }
}
