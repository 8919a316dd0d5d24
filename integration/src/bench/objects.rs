//! What the world of the bench is made from: the same four pods for every subject, and a mesh of some size.

use std::fmt::Write as _;

use super::Subject;

/// Pods on nodes that are not here, which the mesh must know.
pub(super) const FAR_PODS: u32 = 100;
/// Services that the mesh must know beside the subjects' own.
pub(super) const FAR_SERVICES: u32 = 1_000;

/// The mesh's own pods, as the demo has them, with the workers that everybody has and, for `handshakes`, a tunnel
/// for each connection.
pub(super) fn mesh(tunnel_per_connection: bool) -> String {
    let more = if tunnel_per_connection {
        r#", "--tunnel-per-connection""#
    } else {
        ""
    };
    include_str!("../../demo/00-mesh.yaml").replace(
        "command: [ztunnel]",
        &format!(r#"command: [ztunnel], args: ["--workers=2"{more}]"#),
    )
}

/// Every subject's namespace: two clients on node-1, one beside the server on node-2. Ours alone is in the mesh.
pub(super) fn subjects() -> String {
    let mut text = String::new();
    for subject in Subject::ALL {
        let (name, digit) = (subject.name(), subject.index());
        let enrolled = if subject == Subject::Weft {
            ", labels: {weft.dev/dataplane-mode: ambient}"
        } else {
            ""
        };
        let _ = write!(
            text,
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {name}{enrolled}}}\n---\n{}---\n{}---\n",
            nginx(name),
            service(name, &subject.service())
        );
        for (pod, node, last) in [("client", 1, 1), ("noisy", 1, 3), ("near", 2, 4), ("server", 2, 2)] {
            let address = format!("10.77.{node}.{digit}{last}");
            let containers = if pod == "server" { SERVER } else { CLIENT };
            let _ = write!(
                text,
                "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {pod}, namespace: {name}}}\n---\n\
                 apiVersion: v1\nkind: Pod\n\
                 metadata: {{name: {pod}, namespace: {name}, uid: 0c000000-0000-4000-8000-0000000000{digit}{last}, \
                 labels: {{app: {pod}}}}}\n\
                 spec:\n  nodeName: node-{node}\n  serviceAccountName: {pod}\n{containers}\
                 status: {{podIP: {address}, phase: Running}}\n---\n"
            );
        }
    }
    text.trim_end_matches("---\n").to_owned()
}

/// Pods and Services that are nobody's business here but must be known. `change` makes every pod differ.
pub(super) fn far(change: u32) -> String {
    let mut text =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: far, labels: {weft.dev/dataplane-mode: ambient}}\n"
            .to_owned();
    for pod in 0..FAR_PODS {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{pod}, namespace: far, uid: far-{pod}, \
             labels: {{app: a{pod}, change: c{change}}}}}\n\
             spec: {{nodeName: far-{}, serviceAccountName: default, containers: [{{name: c}}]}}\n\
             status: {{podIP: 10.77.200.{}, phase: Running}}\n",
            pod % 10,
            pod + 1
        );
    }
    for service in 0..FAR_SERVICES {
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: s{service}, namespace: far}}\n\
             spec: {{clusterIP: 10.78.{}.{}, selector: {{app: a{}}}, ports: [{{port: 80}}]}}\n",
            100 + service / 250,
            1 + service % 250,
            service % FAR_PODS
        );
    }
    text
}

const CLIENT: &str = "  containers: [{name: shell, command: [sleep, infinity]}]\n";
const SERVER: &str = "  containers:
  - name: nginx
    command: [nginx, -e, stderr, -c, /etc/nginx/nginx.conf]
    ports: [{name: http, containerPort: 8080}]
    volumeMounts: [{name: config, mountPath: /etc/nginx}, {name: scratch, mountPath: /var/lib/nginx}]
  - name: iperf
    command: [iperf3, -s]
    ports: [{name: iperf, containerPort: 5201}]
  volumes: [{name: config, configMap: {name: nginx}}, {name: scratch, emptyDir: {}}]
";

fn service(namespace: &str, address: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: server, namespace: {namespace}}}\n\
         spec:\n  clusterIP: {address}\n  selector: {{app: server}}\n  ports:\n  \
         - {{name: http, port: 80, targetPort: 8080}}\n  - {{name: once, port: 81, targetPort: 8080}}\n  \
         - {{name: iperf, port: 5201, targetPort: 5201}}\n"
    )
}

fn nginx(namespace: &str) -> String {
    format!(
        "apiVersion: v1
kind: ConfigMap
metadata: {{name: nginx, namespace: {namespace}}}
data:
  nginx.conf: |
    user root;
    daemon off;
    master_process off;
    pid /var/lib/nginx/nginx.pid;
    events {{ worker_connections 19000; }}
    http {{
      access_log off;
      client_body_temp_path /var/lib/nginx/body;
      proxy_temp_path /var/lib/nginx/proxy;
      fastcgi_temp_path /var/lib/nginx/fastcgi;
      uwsgi_temp_path /var/lib/nginx/uwsgi;
      scgi_temp_path /var/lib/nginx/scgi;
      keepalive_requests 1000000000;
      keepalive_timeout 1h;
      client_header_timeout 1h;
      server {{
        listen 8080 backlog=4096;
        location / {{ return 200 \"answer\\n\"; }}
      }}
    }}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::objects::Objects;

    #[test]
    fn every_subject_has_the_same_pods_and_those_of_far_nodes_run_nowhere() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("0.yaml", mesh(true)), ("1.yaml", subjects()), ("2.yaml", far(7))] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let objects = Objects::read(directory.path()).unwrap();
        for subject in Subject::ALL {
            for pod in ["client", "noisy", "near", "server"] {
                let pod = &objects.pods[&subject.pod(pod)];
                assert_eq!(objects.enrolled(pod), subject == Subject::Weft);
            }
            assert_eq!(
                objects.pods[&subject.pod("server")].addresses[0].to_string(),
                subject.server()
            );
        }
        assert!(!objects.pods.keys().any(|key| key.starts_with("far/")));
        let ztunnel = &objects.pods["weft-system/ztunnel-node-1"].spec.containers[0];
        assert_eq!(ztunnel.args, ["--workers=2", "--tunnel-per-connection"]);
    }
}
