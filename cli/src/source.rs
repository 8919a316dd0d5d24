//! Where answers come from: a directory, read once; proxies that run on this machine; or a cluster, its objects
//! and the proxies in it.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use act::{
    admin::Admin,
    config::{
        Reader, directory,
        kubernetes::{self, Scope},
    },
    process::Readiness,
    telemetry::Metrics,
};
use decide::model::MeshSettings;
use kube::Client;
use serde_json::Value;

use crate::{
    cluster::ClusterOptions,
    pods,
    proxies::{self, Proxy, Said},
};

/// Where proxies of this machine have their admin sockets, unless told otherwise.
const RUN: &str = "/run/weft";
/// What `--config` says for the API server, as for every binary of the mesh.
const API_SERVER: &str = "kubernetes";

/// Where answers come from.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct SourceOptions {
    /// Answer offline, from this directory of Kubernetes YAML
    #[arg(
        long,
        global = true,
        env = "WEFT_CONFIG",
        value_name = "DIR",
        conflicts_with = "admin"
    )]
    config: Option<PathBuf>,
    /// Answer from the proxies of this machine whose admin sockets (*.sock) are in this directory. By default
    /// /run/weft if it holds any, else the cluster
    #[arg(long, global = true, env = "WEFT_RUN", value_name = "DIR")]
    run: Option<PathBuf>,
    /// Answer from the one proxy whose admin endpoint is at this address
    #[arg(long, global = true, env = "WEFT_ADMIN", value_name = "ADDR")]
    admin: Option<SocketAddr>,
}

/// Which source the flags choose.
#[derive(Debug, PartialEq)]
enum Choice<'o> {
    Directory(&'o Path),
    Admin(SocketAddr),
    Run(&'o Path),
    Cluster,
}

/// What can be asked.
pub(crate) enum Source {
    /// A directory of YAML.
    Directory(PathBuf),
    /// Proxies of this machine.
    Proxies(Vec<Proxy>),
    /// A cluster.
    Cluster(Client),
}

impl SourceOptions {
    /// What can be asked.
    ///
    /// # Errors
    /// When that is nothing.
    pub(crate) async fn resolve(&self, cluster: &ClusterOptions) -> Result<Source, String> {
        let here = proxies::in_directory(Path::new(RUN)).unwrap_or_default();
        let named = cluster.kubeconfig.is_some() || cluster.context.is_some();
        match self.choose(named, !here.is_empty()) {
            Choice::Directory(directory) => Ok(Source::Directory(directory.to_owned())),
            Choice::Admin(address) => Ok(Source::Proxies(vec![Proxy::tcp(address)])),
            Choice::Run(directory) => Ok(Source::Proxies(proxies::in_directory(directory)?)),
            Choice::Cluster if named => Ok(Source::Cluster(cluster.client().await?)),
            Choice::Cluster => match cluster.client().await {
                Ok(client) => Ok(Source::Cluster(client)),
                Err(error) => Err(format!(
                    "there is nobody to ask: no proxy runs in {RUN}, and {error}; start a mesh on this machine \
                     (weft demo), or answer offline with --config DIR"
                )),
            },
        }
    }

    /// A cluster that was named wins; the environment may name the rest for every command.
    fn choose(&self, cluster_named: bool, proxies_here: bool) -> Choice<'_> {
        let directory = self.config.as_deref();
        match (directory, self.admin, self.run.as_deref()) {
            _ if cluster_named => Choice::Cluster,
            (Some(directory), ..) if directory.as_os_str() == API_SERVER => Choice::Cluster,
            (Some(directory), ..) => Choice::Directory(directory),
            (None, Some(address), _) => Choice::Admin(address),
            (None, None, Some(run)) => Choice::Run(run),
            (None, None, None) if proxies_here => Choice::Run(Path::new(RUN)),
            (None, None, None) => Choice::Cluster,
        }
    }
}

impl Source {
    /// What every proxy says of itself in short (`/status`).
    ///
    /// # Errors
    /// When nothing can be asked at all.
    pub(crate) async fn statuses(&self) -> Result<Vec<Said<Value>>, String> {
        match self {
            Self::Directory(directory) => Ok(vec![Said {
                proxy: Proxy::absent(&directory.display().to_string(), "it is a directory".into()),
                told: Ok(as_admin(&read(directory)?, directory.display().to_string()).status()),
            }]),
            Self::Proxies(_) | Self::Cluster(_) => Ok(proxies::ask_all(self.proxies().await?, "/status").await),
        }
    }

    /// One dump that knows the mesh: the directory's, the cluster's, else the first proxy's that answers, ztunnels
    /// first.
    ///
    /// # Errors
    /// When none answers.
    pub(crate) async fn mesh(&self) -> Result<Value, String> {
        let Self::Proxies(proxies) = self else {
            return match self.reader().await? {
                Some((reader, name)) => Ok(as_admin(&reader, name).dump()),
                None => Err("no proxy answers".into()),
            };
        };
        let said = proxies::ask_all(proxies.clone(), "/config_dump").await;
        let mut told: Vec<_> = said.into_iter().map(|said| said.told).collect();
        told.sort_by_key(|told| told.as_ref().map_or(2, |dump| u8::from(dump["process"] != "ztunnel")));
        told.into_iter()
            .next()
            .unwrap_or_else(|| Err("no proxy answers".into()))
    }

    /// The objects themselves and what they are called, where they can be read: not of proxies.
    ///
    /// # Errors
    /// When they cannot be read.
    pub(crate) async fn reader(&self) -> Result<Option<(Reader, String)>, String> {
        match self {
            Self::Directory(directory) => Ok(Some((
                read(directory)?,
                format!("the files in {}", directory.display()),
            ))),
            Self::Cluster(client) => Ok(Some((api_server(client).await?, "the objects in the cluster".into()))),
            Self::Proxies(_) => Ok(None),
        }
    }

    /// The proxies that can be asked.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn proxies(&self) -> Result<Vec<Proxy>, String> {
        match self {
            Self::Directory(_) => Err("a directory holds no proxy: ask the running ones, without --config".into()),
            Self::Proxies(proxies) => Ok(proxies.clone()),
            Self::Cluster(client) => pods::proxies(client).await,
        }
    }

    /// The proxy of this name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn proxy(&self, name: &str) -> Result<Proxy, String> {
        let proxies = self.proxies().await?;
        let found = proxies.iter().find(|proxy| proxy.name == name);
        found.cloned().ok_or_else(|| {
            let names: Vec<_> = proxies.iter().map(|proxy| &*proxy.name).collect();
            format!("no proxy {name}; there are: {}", names.join(", "))
        })
    }
}

/// Reads a directory once.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(directory: &Path) -> Result<Reader, String> {
    let (_, reader) = directory::load(directory, MeshSettings::default()).map_err(|error| error.to_string())?;
    Ok(reader)
}

/// Reads what a cluster's API server holds, once.
///
/// # Errors
/// When it does not tell everything that decides about traffic.
pub(crate) async fn api_server(client: &Client) -> Result<Reader, String> {
    let settings = MeshSettings {
        capture_is_told: true,
        ..MeshSettings::default()
    };
    let read = kubernetes::read_once(client, settings, &Scope::Ztunnel).await;
    read.map_err(|error| error.to_string())
}

/// What a proxy that knows just this would tell.
fn as_admin(reader: &Reader, name: String) -> Admin {
    Admin {
        process: ("objects", name),
        reader: Some(reader.clone()),
        certificates: None,
        metrics: Metrics::install(),
        logs: None,
        readiness: Readiness::new(),
        prover: None,
        parts: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_source_is_what_was_named_else_what_runs_here_else_the_cluster() {
        let (config, run): (PathBuf, PathBuf) = ("yaml".into(), "sockets".into());
        let admin: SocketAddr = "127.0.0.1:1".parse().expect("an address");
        let options = |has_config: bool, has_admin: bool, has_run: bool| SourceOptions {
            config: has_config.then(|| config.clone()),
            admin: has_admin.then_some(admin),
            run: has_run.then(|| run.clone()),
        };
        for (options, named, here, expected) in [
            (options(false, false, false), false, false, Choice::Cluster),
            (options(false, false, false), false, true, Choice::Run(Path::new(RUN))),
            (options(false, false, false), true, true, Choice::Cluster),
            (options(true, true, true), true, true, Choice::Cluster),
            (options(true, false, true), false, true, Choice::Directory(&config)),
            (options(false, true, true), false, true, Choice::Admin(admin)),
            (options(false, false, true), false, true, Choice::Run(&run)),
        ] {
            assert_eq!(options.choose(named, here), expected, "{options:?} {named} {here}");
        }
        let cluster = SourceOptions {
            config: Some(API_SERVER.into()),
            ..SourceOptions::default()
        };
        assert_eq!(cluster.choose(false, true), Choice::Cluster);
    }
}
