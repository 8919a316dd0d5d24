//! Kubeconfigs, from an address and credentials to YAML that needs no other file.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::json;

use super::pki::Credential;

/// The kubeconfig of one user of the cluster. `name` is what `kubectl config` calls cluster, user and context.
pub(super) fn kubeconfig(name: &str, server: &str, authority: &str, user: &Credential) -> String {
    // JSON is YAML, and this order of keys is kept.
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(authority),
        }}],
        "users": [{ "name": name, "user": {
            "client-certificate-data": STANDARD.encode(&user.certificate),
            "client-key-data": STANDARD.encode(&user.key),
        }}],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": name } }],
        "current-context": name,
    });
    serde_yaml::to_string(&document).unwrap_or_else(|_| document.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_is_read_by_the_client_library_and_needs_no_other_file() {
        let user = Credential {
            certificate: "certificate".into(),
            key: "key".into(),
        };
        let text = kubeconfig("weft-1", "https://10.77.0.1:6443", "authority", &user);
        let read = kube::config::Kubeconfig::from_yaml(&text).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("weft-1"));
        let cluster = read.clusters[0].cluster.clone().unwrap();
        assert_eq!(cluster.server.as_deref(), Some("https://10.77.0.1:6443"));
        assert_eq!(cluster.certificate_authority, None);
        assert_eq!(cluster.certificate_authority_data, Some(STANDARD.encode("authority")));
    }
}
