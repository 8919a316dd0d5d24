//! Envoy as a pair over HBONE: what either end is told.

use std::path::Path;

use serde_json::{Value, json};

use super::certificates::IDENTITIES;

/// The types that Envoy's configuration names over and over.
const TYPES: &str = "type.googleapis.com/envoy.extensions";

/// The client's end: 15001 leads to the server's web port, 15002 to its iperf3, 15003 to the web port by a
/// connection and a handshake of its own each time.
pub(super) fn client(certificates: &Path, server: &str) -> String {
    let [_, (_, identity)] = IDENTITIES;
    let listener = |port: u16, to: u16, cluster: &str| {
        let filter = json!({
            "@type": format!("{TYPES}.filters.network.tcp_proxy.v3.TcpProxy"),
            "stat_prefix": "out",
            "cluster": cluster,
            "tunneling_config": {"hostname": format!("{server}:{to}")},
        });
        json!({
            "name": format!("out{port}"),
            "address": address("0.0.0.0", port),
            "filter_chains": [{"filters": [{"name": "tcp", "typed_config": filter}]}],
        })
    };
    let tls = json!({
        "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
        "max_session_keys": 0,
        "common_tls_context": tls(certificates, "client", &json!({"exact": identity})),
    });
    let hbone = |name: &str, uses: Option<u32>| {
        let mut cluster = cluster(name, server, 15008);
        let mut options = json!({
            "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {"allow_connect": true}},
        });
        if let Some(uses) = uses {
            options["common_http_protocol_options"] = json!({"max_requests_per_connection": uses});
        }
        cluster["typed_extension_protocol_options"] =
            json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options});
        cluster["transport_socket"] = json!({"name": "tls", "typed_config": tls});
        cluster
    };
    whole(
        &[
            listener(15001, 8080, "hbone"),
            listener(15002, 5201, "hbone"),
            listener(15003, 8080, "once"),
        ],
        &[hbone("hbone", None), hbone("once", Some(1))],
    )
}

/// The server's end: a CONNECT to one of the pod's two ports goes there.
pub(super) fn server(certificates: &Path, server: &str) -> String {
    let host = |port: u16| {
        let connect = json!([{"upgrade_type": "CONNECT", "connect_config": {}}]);
        let route = json!({"cluster": format!("app{port}"), "timeout": "0s", "upgrade_configs": connect});
        json!({
            "name": format!("app{port}"),
            "domains": [format!("{server}:{port}")],
            "routes": [{"match": {"connect_matcher": {}}, "route": route}],
        })
    };
    let router = json!({"@type": format!("{TYPES}.filters.http.router.v3.Router")});
    let http = json!({
        "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
        "stat_prefix": "hbone",
        "stream_idle_timeout": "0s",
        "http2_protocol_options": {"allow_connect": true},
        "upgrade_configs": [{"upgrade_type": "CONNECT"}],
        "route_config": {"virtual_hosts": [host(8080), host(5201)]},
        "http_filters": [{"name": "router", "typed_config": router}],
    });
    let tls = json!({
        "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
        "require_client_certificate": true,
        "common_tls_context": tls(certificates, "server", &json!({"prefix": "spiffe://cluster.local/"})),
    });
    let listener = json!({
        "name": "in",
        "address": address("0.0.0.0", 15008),
        "filter_chains": [{
            "transport_socket": {"name": "tls", "typed_config": tls},
            "filters": [{"name": "http", "typed_config": http}],
        }],
    });
    whole(
        &[listener],
        &[
            cluster("app8080", "127.0.0.1", 8080),
            cluster("app5201", "127.0.0.1", 5201),
        ],
    )
}

fn whole(listeners: &[Value], clusters: &[Value]) -> String {
    json!({
        "node": {"id": "bench", "cluster": "bench"},
        "static_resources": {"listeners": listeners, "clusters": clusters},
    })
    .to_string()
}

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}

/// A cluster of one address, with no bound that a case could reach.
fn cluster(name: &str, host: &str, port: u16) -> Value {
    let many = 100_000;
    let endpoint = json!({"endpoint": {"address": address(host, port)}});
    let bounds = json!({"max_connections": many, "max_pending_requests": many, "max_requests": many});
    json!({
        "name": name,
        "type": "STATIC",
        "circuit_breakers": {"thresholds": [bounds]},
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    })
}

fn tls(certificates: &Path, name: &str, peer: &Value) -> Value {
    let file = |name: String| json!({"filename": certificates.join(name).display().to_string()});
    json!({
        "alpn_protocols": ["h2"],
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{
            "certificate_chain": file(format!("{name}.crt")),
            "private_key": file(format!("{name}.key")),
        }],
        "validation_context": {
            "trusted_ca": file("ca.crt".into()),
            "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": peer}],
        },
    })
}
