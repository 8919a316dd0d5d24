//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use act::{
    admin::AdminOptions,
    authority::leaf_life,
    config::{Source, SourceOptions},
    telemetry::LogOptions,
};
use clap::Parser;
use rustls::pki_types::ServerName;

use crate::{
    chain::{Given, Pair},
    listen::Bounds,
    proof::NodeRule,
    service::Terms,
};

/// Where the issuers stand when no flag says otherwise.
const ISSUERS: &str = "/etc/weft/issuers.yaml";

/// Signs workload identities: who may hold which follows from tokens and from the pods that run.
#[derive(Debug, Clone, Parser)]
#[command(name = "ca", version)]
pub struct Options {
    /// Address of the gRPC service
    #[arg(long, env = "WEFT_LISTEN", value_name = "ADDR", default_value = "0.0.0.0:15012")]
    pub listen: SocketAddr,
    /// Directory of our own certificates and keys; made with a new root on first start
    #[arg(long, env = "WEFT_STATE", value_name = "DIR", default_value = "/var/lib/weft/ca")]
    pub state: PathBuf,
    /// Secret of our own certificates and keys, shared by every replica, instead of a directory
    #[arg(long, env = "WEFT_STATE_SECRET", value_name = "NS/NAME", value_parser = namespaced, conflicts_with = "state")]
    pub state_secret: Option<(String, String)>,
    /// File with the token issuers we believe (YAML) [default: /etc/weft/issuers.yaml; with --config kubernetes none:
    /// the API server is asked about every token of an issuer that no file names]
    #[arg(long, env = "WEFT_ISSUERS", value_name = "FILE")]
    pub issuers: Option<PathBuf>,
    /// Audience of the tokens that the API server is asked about
    #[arg(long, env = "WEFT_AUDIENCE", value_name = "NAME", default_value = "weft-ca")]
    pub audience: String,
    /// Name of the ConfigMap with our roots (key `root.pem`), kept with --config kubernetes in the mesh's own
    /// namespace and in each that has a waypoint
    #[arg(long, env = "WEFT_ROOT_CONFIGMAP", value_name = "NAME", default_value = "weft-root")]
    pub root_configmap: String,
    /// Where the pods are learned from.
    #[command(flatten)]
    pub source: SourceOptions,
    /// DNS name or address in our own server certificate; repeat or separate by commas
    #[arg(long, env = "WEFT_NAME", value_name = "NAME", value_delimiter = ',',
        default_value = "ca.weft-system.svc,ca.weft-system.svc.cluster.local,ca", value_parser = server_name)]
    pub name: Vec<ServerName<'static>>,
    /// How long a certificate lives when the caller does not say
    #[arg(long, env = "WEFT_LEAF_LIFE", value_name = "DURATION", default_value = "24h", value_parser = leaf_life)]
    pub leaf_life: Duration,
    /// The longest a certificate may live
    #[arg(long, env = "WEFT_MAX_LEAF_LIFE", value_name = "DURATION", default_value = "7d", value_parser = leaf_life)]
    pub max_leaf_life: Duration,
    /// Namespace and service account of ztunnel, which asks for the pods of its node
    #[arg(long, env = "WEFT_ZTUNNEL_ACCOUNT", value_name = "NS/NAME", default_value = "weft-system/ztunnel",
        value_parser = namespaced)]
    pub ztunnel_account: (String, String),
    /// Believe a ztunnel only if its own pod is known, always so with --config kubernetes; without it, the pod must
    /// fit only if it is known
    #[arg(long, env = "WEFT_REQUIRE_NODE_POD")]
    pub require_node_pod: bool,
    /// Requests one caller may make at once
    #[arg(long, env = "WEFT_CALLER_BURST", value_name = "N", default_value_t = 500)]
    pub caller_burst: u32,
    /// Requests one caller may make per second on end
    #[arg(long, env = "WEFT_CALLER_RATE", value_name = "N", default_value_t = 50)]
    pub caller_rate: u32,
    /// Connections at once
    #[arg(long, env = "WEFT_MAX_CONNECTIONS", value_name = "N", default_value_t = 4096)]
    pub max_connections: usize,
    /// Connections at once from one address
    #[arg(
        long,
        env = "WEFT_MAX_CONNECTIONS_PER_ADDRESS",
        value_name = "N",
        default_value_t = 64
    )]
    pub max_connections_per_address: usize,
    /// How long everybody is still served when asked to stop, until Services have learnt of it; not ready meanwhile
    #[arg(long, env = "WEFT_LINGER", value_name = "DURATION", default_value = "3s", value_parser = humantime::parse_duration)]
    pub linger: Duration,
    /// How long requests under way are waited for after that
    #[arg(long, env = "WEFT_DRAIN", value_name = "DURATION", default_value = "10s", value_parser = humantime::parse_duration)]
    pub drain: Duration,
    /// Roots and keys from files
    #[command(flatten)]
    pub given: GivenOptions,
    /// Admin endpoints
    #[command(flatten)]
    pub admin: AdminOptions,
    /// Logs
    #[command(flatten)]
    pub logs: LogOptions,
}

/// Certificates and keys given as files (PEM) instead of made here.
#[derive(Debug, Clone, clap::Args)]
pub struct GivenOptions {
    /// Roots to trust; the first is ours
    #[arg(long, env = "WEFT_ROOT_CERT", value_name = "FILE")]
    pub root_cert: Option<PathBuf>,
    /// Key of the first root; without it the intermediate must be given
    #[arg(long, env = "WEFT_ROOT_KEY", value_name = "FILE", requires = "root_cert")]
    pub root_key: Option<PathBuf>,
    /// Intermediate, and what is between it and the root
    #[arg(long, env = "WEFT_INTERMEDIATE_CERT", value_name = "FILE", requires_all = ["root_cert", "intermediate_key"])]
    pub intermediate_cert: Option<PathBuf>,
    /// Key of the intermediate
    #[arg(
        long,
        env = "WEFT_INTERMEDIATE_KEY",
        value_name = "FILE",
        requires = "intermediate_cert"
    )]
    pub intermediate_key: Option<PathBuf>,
}

impl Options {
    /// What the CA gives to whom.
    pub fn terms(&self) -> Terms {
        Terms {
            life: self.leaf_life.min(self.max_leaf_life),
            most_life: self.max_leaf_life,
            nodes: NodeRule {
                account: self.ztunnel_account.clone(),
                require_pod: self.require_node_pod || self.is_in_cluster(),
            },
        }
    }

    /// Whether the API server tells of pods and tokens.
    pub fn is_in_cluster(&self) -> bool {
        self.source.config == Source::Kubernetes
    }

    /// The file with the issuers, where there must be one.
    pub fn issuers_file(&self) -> Option<PathBuf> {
        let default = || (!self.is_in_cluster()).then(|| ISSUERS.into());
        self.issuers.clone().or_else(default)
    }

    /// What strangers may do.
    pub fn bounds(&self) -> Bounds {
        Bounds {
            connections: self.max_connections,
            per_address: self.max_connections_per_address,
            linger: self.linger,
            ..Bounds::default()
        }
    }
}

impl GivenOptions {
    /// The files.
    pub fn files(&self) -> Given {
        Given {
            root_certificate: self.root_cert.clone(),
            root_key: self.root_key.clone(),
            intermediate: self
                .intermediate_cert
                .clone()
                .zip(self.intermediate_key.clone())
                .map(|(certificate, key)| Pair { certificate, key }),
        }
    }
}

fn server_name(text: &str) -> Result<ServerName<'static>, String> {
    ServerName::try_from(text.to_owned()).map_err(|_| "it is neither a DNS name nor an address".to_owned())
}

fn namespaced(text: &str) -> Result<(String, String), String> {
    match text.split_once('/') {
        Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
            Ok((namespace.to_owned(), name.to_owned()))
        }
        _ => Err("it is not of the form namespace/name".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent_and_the_defaults_hold() {
        Options::command().debug_assert();
        let options = Options::parse_from(["ca"]);
        assert_eq!(
            options.ztunnel_account,
            ("weft-system".to_owned(), "ztunnel".to_owned())
        );
        assert_eq!(options.terms().life, Duration::from_secs(86_400));
        let shorter = Options::parse_from(["ca", "--max-leaf-life", "60s", "--name", "ca,127.0.0.1"]);
        assert_eq!(shorter.terms().life, Duration::from_secs(60));
        assert_eq!((shorter.name.len(), options.name.len()), (2, 3));
        assert_eq!(options.issuers_file(), Some(ISSUERS.into()));
        assert!(!options.terms().nodes.require_pod);
        let cluster = [
            "ca",
            "--config",
            "kubernetes",
            "--state-secret",
            "weft-system/weft-ca-keys",
        ];
        let cluster = Options::parse_from(cluster);
        assert!(cluster.issuers_file().is_none() && cluster.terms().nodes.require_pod);
        assert_eq!(
            cluster.state_secret,
            Some(("weft-system".to_owned(), "weft-ca-keys".to_owned()))
        );
        for wrong in [
            &["ca", "--leaf-life", "1s"][..],
            &["ca", "--ztunnel-account", "x"],
            &["ca", "--root-key", "k"],
            &["ca", "--state-secret", "x"],
            &["ca", "--state-secret", "a/b", "--state", "c"],
            &["ca", "--trust-domain", "Bad/x"],
        ] {
            Options::try_parse_from(wrong).unwrap_err();
        }
    }
}
