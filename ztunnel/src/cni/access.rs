//! How the plugin reaches the API server without the agent: a kubeconfig with the agent's own token, beside the
//! CNI configuration, for root alone. The kubelet renews the token's file; this follows it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use super::files;

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where the API server is, and who we are to it.
#[derive(Debug, Clone)]
pub struct Access {
    server: String,
    account: PathBuf,
}

impl Access {
    /// That of the pod we run in; `None` outside of one.
    pub fn of_pod(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let (host, port) = (
            variable("KUBERNETES_SERVICE_HOST")?,
            variable("KUBERNETES_SERVICE_PORT")?,
        );
        let host = if host.contains(':') { format!("[{host}]") } else { host };
        Some(Self {
            server: format!("https://{host}:{port}"),
            account: ACCOUNT.into(),
        })
    }

    /// Writes the kubeconfig, unless it holds this already.
    ///
    /// # Errors
    /// When the account cannot be read, or the file not be written.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let authority = fs::read(self.account.join("ca.crt"))?;
        let token = fs::read_to_string(self.account.join("token"))?;
        let wanted = kubeconfig(&self.server, authority, token.trim()).to_string();
        if fs::read_to_string(path).is_ok_and(|now| now == wanted) {
            return Ok(());
        }
        files::write(path, wanted.as_bytes(), 0o600)
    }
}

fn kubeconfig(server: &str, authority: Vec<u8>, token: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "cluster",
            "cluster": { "server": server, "certificate-authority-data": ByteString(authority) },
        }],
        "users": [{ "name": "weft-cni", "user": { "token": token } }],
        "contexts": [{ "name": "weft-cni", "context": { "cluster": "cluster", "user": "weft-cni" } }],
        "current-context": "weft-cni",
    })
}

#[cfg(test)]
mod tests {
    use kube::config::Kubeconfig;

    use super::*;

    #[test]
    fn the_kubeconfig_follows_the_token_and_is_understood() {
        let directory = tempfile::tempdir().unwrap();
        let variable = |name: &str| match name {
            "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
            "KUBERNETES_SERVICE_PORT" => Some("443".to_owned()),
            _ => None,
        };
        let mut access = Access::of_pod(variable).unwrap();
        access.account = directory.path().to_owned();
        let path = directory.path().join("weft-cni.kubeconfig");
        access.write(&path).unwrap_err();
        fs::write(directory.path().join("ca.crt"), "PEM").unwrap();
        for token in ["one", "two\n"] {
            fs::write(directory.path().join("token"), token).unwrap();
            access.write(&path).unwrap();
            let read = serde_json::to_value(Kubeconfig::read_from(&path).unwrap()).unwrap();
            assert_eq!(read["clusters"][0]["cluster"]["server"], "https://[fd00::1]:443");
            assert_eq!(read["clusters"][0]["cluster"]["certificate-authority-data"], "UEVN");
            let written: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(written["users"][0]["user"]["token"], token.trim());
        }
        assert!(Access::of_pod(|_| None).is_none());
    }
}
