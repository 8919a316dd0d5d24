//! Where answers come from: a directory, read once, or the proxies that run.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use act::{
    admin::Admin,
    config::{Reader, directory},
    process::Readiness,
    telemetry::Metrics,
};
use decide::model::MeshSettings;
use serde_json::Value;

use crate::proxies::{self, Proxy};

/// Where answers come from.
#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// Answer offline, from this directory of Kubernetes YAML
    #[arg(
        long,
        global = true,
        env = "WEFT_CONFIG",
        value_name = "DIR",
        conflicts_with = "admin"
    )]
    config: Option<PathBuf>,
    /// Answer from the running proxies whose admin sockets (*.sock) are in this directory
    #[arg(
        long,
        global = true,
        env = "WEFT_RUN",
        value_name = "DIR",
        default_value = "/run/weft"
    )]
    run: PathBuf,
    /// Answer from the one proxy whose admin endpoint is at this address
    #[arg(long, global = true, env = "WEFT_ADMIN", value_name = "ADDR")]
    admin: Option<SocketAddr>,
}

/// What one proxy, or the directory, says of itself.
#[derive(Debug)]
pub(crate) struct Dump {
    /// Its name: the socket's, the address, or the directory.
    pub(crate) name: String,
    /// Its `/config_dump`, or why there is none.
    pub(crate) told: Result<Value, String>,
}

impl Source {
    /// Everything there is to know.
    ///
    /// # Errors
    /// When nothing can be asked at all.
    pub(crate) fn dumps(&self) -> Result<Vec<Dump>, String> {
        if let Some(directory) = &self.config {
            return Ok(vec![Dump {
                name: directory.display().to_string(),
                told: Ok(offline(directory)?),
            }]);
        }
        let ask = |proxy: Proxy| Dump {
            told: proxy.get("/config_dump"),
            name: proxy.name,
        };
        Ok(self.proxies()?.into_iter().map(ask).collect())
    }

    /// One dump that knows the mesh: the directory's, else the first proxy's that answers, ztunnels first.
    ///
    /// # Errors
    /// When none answers.
    pub(crate) fn mesh(&self) -> Result<Value, String> {
        let mut told: Vec<_> = self.dumps()?.into_iter().map(|dump| dump.told).collect();
        told.sort_by_key(|told| told.as_ref().map_or(2, |dump| u8::from(dump["process"] != "ztunnel")));
        told.into_iter()
            .next()
            .unwrap_or_else(|| Err("no proxy answers".into()))
    }

    /// The directory to answer from, if one was given.
    pub(crate) fn directory(&self) -> Option<&Path> {
        self.config.as_deref()
    }

    /// The proxies that can be asked, by name.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn proxies(&self) -> Result<Vec<Proxy>, String> {
        match self.admin {
            Some(address) => Ok(vec![Proxy::tcp(address)]),
            None => proxies::in_directory(&self.run),
        }
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

fn offline(directory: &Path) -> Result<Value, String> {
    let admin = Admin {
        process: ("directory", directory.display().to_string()),
        reader: Some(read(directory)?),
        certificates: None,
        metrics: Metrics::install(),
        logs: None,
        readiness: Readiness::new(),
        parts: Vec::new(),
    };
    Ok(admin.dump())
}
