//! An ExternalService with a name to answer, as tests here and those in network namespaces know it.

use decide::model::{ExternalService, Resolution, ServiceKey, Visibility};

/// `payments.example`, answered with 240.0.0.7 to the pods of `shop`.
pub(crate) fn payments() -> ExternalService {
    ExternalService {
        key: ServiceKey {
            namespace: "shop".into(),
            name: "payments".into(),
        },
        hosts: vec!["payments.example".into()],
        networks: vec!["240.0.0.7/32".parse().unwrap()],
        ports: vec![],
        resolution: Resolution::Static,
        endpoints: [].into(),
        visibility: Visibility::Namespace,
        waypoint: None,
        policies: Default::default(),
        broken: None,
    }
}
