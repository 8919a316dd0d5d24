//! The cluster's DNS as objects: from the template to YAML. Pure.

use act::process::Failure;

use super::{layout::DNS, template::fill};

/// CoreDNS: account, configuration, Deployment and the Service whose address every kubelet gives to its pods.
///
/// # Errors
/// When the template asks for what it does not get.
pub(super) fn objects() -> Result<String, Failure> {
    fill(
        include_str!("../../cluster/addons/dns.yaml"),
        &[
            ("DNS_V4", DNS[0]),
            ("DNS_V6", DNS[1]),
            ("VERSION", env!("CARGO_PKG_VERSION")),
        ],
    )
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_service_has_the_address_that_kubelets_hand_out_and_nothing_is_asked_outside() {
        let text = objects().unwrap();
        let documents: Vec<Value> = serde_yaml::Deserializer::from_str(&text)
            .map(|document| Value::deserialize(document).unwrap())
            .collect();
        let service = documents.iter().find(|it| it["kind"] == "Service").unwrap();
        assert_eq!(service["spec"]["clusterIPs"], serde_json::json!(DNS));
        assert!(!text.contains("forward"));
    }
}
