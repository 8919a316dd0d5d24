//! Flags of the CNI plugin's place on a node.

use std::path::PathBuf;

/// Where the CNI plugin stands. The directories must be the node's, at the same paths as on the node.
#[derive(Debug, Clone, clap::Args)]
pub struct CniOptions {
    /// Directory of the node's CNI configuration
    #[arg(
        long,
        env = "WEFT_CNI_CONF_DIR",
        value_name = "DIR",
        default_value = "/etc/cni/net.d"
    )]
    pub cni_conf_dir: PathBuf,
    /// Directory of the node's CNI plugins
    #[arg(long, env = "WEFT_CNI_BIN_DIR", value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,
    /// Unix socket on which the CNI plugin asks the agent
    #[arg(
        long,
        env = "WEFT_CNI_SOCKET",
        value_name = "PATH",
        default_value = "/var/run/weft/cni.sock"
    )]
    pub cni_socket: PathBuf,
    /// Writes a configuration of our own, first in order, that holds the primary's plugins and ours: after a reboot
    /// no pod of the mesh starts uncaptured
    #[arg(long, env = "WEFT_OWN_CNI_CONFIG")]
    pub own_cni_config: bool,
}

impl CniOptions {
    /// How the plugin reaches the API server without the agent.
    pub fn kubeconfig(&self) -> PathBuf {
        self.cni_conf_dir.join("weft-cni.kubeconfig")
    }

    /// What the agent knew last.
    pub fn state(&self) -> PathBuf {
        self.cni_conf_dir.join("weft-cni.state")
    }
}
