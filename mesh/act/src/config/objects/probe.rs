//! What a kubelet asks of a container over the network: probes and lifecycle hooks. Comes in: a container as
//! written. Goes out: the ports its node's kubelet connects to.

use std::sync::Arc;

use serde::Deserialize;

use super::{
    TargetPort,
    pod::{Container, Pod},
    read::or_default,
};

/// One probe, or one lifecycle hook. What runs inside the container (`exec`, `sleep`) needs no network.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Handler {
    /// Asks over HTTP.
    #[serde(default)]
    pub http_get: Option<Target>,
    /// Connects.
    #[serde(default)]
    pub tcp_socket: Option<Target>,
    /// Asks gRPC's health service.
    #[serde(default)]
    pub grpc: Option<GrpcTarget>,
}

/// Where a probe goes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Target {
    /// Port, by number or by the container's own name for it.
    pub port: TargetPort,
    /// Another host than the pod; empty for the pod.
    #[serde(default, deserialize_with = "or_default")]
    pub host: Arc<str>,
}

/// Where a gRPC probe goes: always the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct GrpcTarget {
    /// Port.
    pub port: u16,
}

/// What the kubelet calls as a container starts and before it stops.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lifecycle {
    /// After it started.
    #[serde(default)]
    pub post_start: Option<Box<Handler>>,
    /// Before it is stopped.
    #[serde(default)]
    pub pre_stop: Option<Box<Handler>>,
}

impl Pod {
    /// TCP ports of the pod that its kubelet connects to, in order, each once. A probe of another host, or of a
    /// name that its container gives no port, is none of them.
    pub fn probed_ports(&self) -> Vec<u16> {
        let containers = self.spec.containers.iter().chain(&self.spec.init_containers);
        let mut ports: Vec<u16> = containers.flat_map(probed).collect();
        ports.sort_unstable();
        ports.dedup();
        ports
    }
}

fn probed(container: &Container) -> impl Iterator<Item = u16> {
    let probes = [
        &container.liveness_probe,
        &container.readiness_probe,
        &container.startup_probe,
    ];
    let hooks = [&container.lifecycle.post_start, &container.lifecycle.pre_stop];
    probes
        .into_iter()
        .chain(hooks)
        .flatten()
        .flat_map(|handler| ports(handler, container))
}

fn ports(handler: &Handler, container: &Container) -> impl Iterator<Item = u16> {
    let targets = handler.http_get.iter().chain(&handler.tcp_socket);
    let named = targets
        .filter(|target| target.host.is_empty())
        .filter_map(|target| number(&target.port, container));
    named
        .chain(handler.grpc.map(|grpc| grpc.port))
        .filter(|port| *port != 0)
}

/// As the kubelet resolves it: a number, a name among the container's own ports, or a number written as text.
fn number(port: &TargetPort, container: &Container) -> Option<u16> {
    match port {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => {
            let named = container.ports.iter().find(|port| port.name == *name);
            named.map_or_else(|| name.parse().ok(), |port| Some(port.container_port))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::config::Object;

    fn probed(spec: &Value) -> Vec<u16> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}, "spec": spec});
        match Object::parse(&pod) {
            Ok(Some(Object::Pod(pod))) => pod.probed_ports(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_probe_and_hook_over_the_network_is_told_by_its_port() {
        let spec = json!({"containers": [{
            "name": "app",
            "ports": [{"name": "http", "containerPort": 8080}, {"name": "health", "containerPort": 8081, "protocol": "TCP"}],
            "livenessProbe": {"httpGet": {"path": "/", "port": "http", "scheme": "HTTPS"}, "periodSeconds": 1},
            "readinessProbe": {"tcpSocket": {"port": 9000}},
            "startupProbe": {"grpc": {"port": 9001, "service": "s"}},
            "lifecycle": {
                "postStart": {"httpGet": {"port": "health"}},
                "preStop": {"httpGet": {"port": "9002", "host": ""}}
            }
        }]});
        assert_eq!(probed(&spec), [8080, 8081, 9000, 9001, 9002]);
    }

    #[test]
    fn sidecars_are_probed_by_their_own_names_for_ports() {
        let spec = json!({
            "containers": [{"ports": [{"name": "http", "containerPort": 80}], "livenessProbe": {"httpGet": {"port": "http"}}}],
            "initContainers": [{
                "restartPolicy": "Always",
                "ports": [{"name": "http", "containerPort": 81}],
                "readinessProbe": {"httpGet": {"port": "http"}}
            }]
        });
        assert_eq!(probed(&spec), [80, 81]);
        // another container's name is nobody's
        let spec = json!({"containers": [
            {"ports": [{"name": "http", "containerPort": 80}]},
            {"readinessProbe": {"httpGet": {"port": "http"}}}
        ]});
        assert!(probed(&spec).is_empty());
    }

    #[test]
    fn what_does_not_go_to_the_pod_opens_nothing() {
        let spec = json!({"containers": [{
            "livenessProbe": {"httpGet": {"port": 80, "host": "example.com"}},
            "readinessProbe": {"exec": {"command": ["true"]}},
            "startupProbe": {"tcpSocket": {"port": 81, "host": "127.0.0.1"}},
            "lifecycle": {"preStop": {"sleep": {"seconds": 1}}}
        }]});
        assert!(probed(&spec).is_empty());
        assert!(probed(&json!({"containers": [{"livenessProbe": null, "lifecycle": null}]})).is_empty());
    }
}
