//! The programs of the cluster's machines and their arguments. From a layout to what each machine runs; pure.

use std::path::Path;

use super::{
    layout::{API_SERVICE, CONTROL_PLANE_ADDRESSES, Layout, Node, SERVICE_RANGES},
    machine::{Component, Spec},
};

/// Where a node has the Kubernetes programs.
pub(super) const NODE_PROGRAMS: &str = "/opt/kubernetes/bin";
/// Host names and addresses the API server serves under.
pub(super) const API_HOSTS: [&str; 9] = [
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
    API_SERVICE,
    CONTROL_PLANE_ADDRESSES[0],
    CONTROL_PLANE_ADDRESSES[1],
];

/// What the control plane's machine runs: etcd and Kubernetes' own components, then each node as a program of its
/// own. Nothing starts by itself: `up` starts each when what it needs is there.
pub(super) fn control_plane(layout: &Layout, nodes: &[Node]) -> Spec {
    let mut components = vec![
        etcd(layout),
        api_server(layout),
        controller_manager(layout),
        scheduler(layout),
    ];
    components.extend(nodes.iter().map(|node| Component {
        name: node.name(),
        words: words(&["sh", "-eu", &path(&layout.join(format!("{}.sh", node.name())))]),
        log: layout.log(super::layout::CONTROL_PLANE, &node.name()),
        cgroup: None,
        needs: None,
        at_boot: false,
        // What holds a node's first process hears no polite request.
        polite: false,
    }));
    Spec {
        name: super::layout::CONTROL_PLANE.into(),
        node: None,
        components,
    }
}

/// What a node runs.
pub(super) fn node(layout: &Layout, node: Node) -> Vec<Component> {
    let name = node.name();
    let kubelet = vec![
        format!("{NODE_PROGRAMS}/kubelet"),
        "--config=/etc/kubernetes/kubelet.yaml".into(),
        "--kubeconfig=/etc/kubernetes/kubelet.kubeconfig".into(),
        format!("--hostname-override={name}"),
        format!("--node-ip={}", node.addresses().join(",")),
    ];
    let proxy = vec![
        format!("{NODE_PROGRAMS}/kube-proxy"),
        "--config=/etc/kubernetes/kube-proxy.yaml".into(),
    ];
    let component = |name: &str, words: Vec<String>| Component {
        name: name.into(),
        words,
        log: Path::new("/var/log").join(format!("{name}.log")),
        cgroup: None,
        needs: None,
        at_boot: true,
        polite: true,
    };
    vec![
        component("containerd", words(&["containerd"])),
        Component {
            cgroup: Some(format!("{}/kubelet", layout.cgroup(node))),
            needs: Some("/run/containerd/containerd.sock".into()),
            ..component("kubelet", kubelet)
        },
        component("kube-proxy", proxy),
    ]
}

fn etcd(layout: &Layout) -> Component {
    let mut arguments = vec![format!("--data-dir={}", path(&layout.join("etcd")))];
    arguments.extend(words(&[
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        "--initial-advertise-peer-urls=http://127.0.0.1:2380",
        "--initial-cluster=default=http://127.0.0.1:2380",
        "--log-level=warn",
        // A power cut may cost the cluster; a disk's patience would cost every test.
        "--unsafe-no-fsync",
    ]));
    component(layout, "etcd", arguments)
}

fn api_server(layout: &Layout) -> Component {
    let pki = |file: &str| path(&layout.join("pki").join(file));
    let arguments = vec![
        "--etcd-servers=http://127.0.0.1:2379".into(),
        format!("--advertise-address={}", CONTROL_PLANE_ADDRESSES[0]),
        "--secure-port=6443".into(),
        format!("--tls-cert-file={}", pki("kube-apiserver.crt")),
        format!("--tls-private-key-file={}", pki("kube-apiserver.key")),
        format!("--client-ca-file={}", pki("ca.crt")),
        "--authorization-mode=Node,RBAC".into(),
        "--enable-admission-plugins=NodeRestriction".into(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--service-account-key-file={}", pki("service-accounts.pub")),
        format!("--service-account-signing-key-file={}", pki("service-accounts.key")),
        format!("--service-cluster-ip-range={SERVICE_RANGES}"),
        "--allow-privileged=true".into(),
        "--kubelet-preferred-address-types=InternalIP".into(),
        format!("--kubelet-certificate-authority={}", pki("ca.crt")),
        format!("--kubelet-client-certificate={}", pki("kube-apiserver-kubelet.crt")),
        format!("--kubelet-client-key={}", pki("kube-apiserver-kubelet.key")),
        format!("--requestheader-client-ca-file={}", pki("ca.crt")),
        "--requestheader-allowed-names=front-proxy".into(),
        "--requestheader-username-headers=X-Remote-User".into(),
        "--requestheader-group-headers=X-Remote-Group".into(),
        "--requestheader-extra-headers-prefix=X-Remote-Extra-".into(),
        format!("--proxy-client-cert-file={}", pki("front-proxy.crt")),
        format!("--proxy-client-key-file={}", pki("front-proxy.key")),
        // No kube-proxy runs here, so a webhook's Service is reached by its endpoints.
        "--enable-aggregator-routing=true".into(),
    ];
    component(layout, "kube-apiserver", arguments)
}

fn controller_manager(layout: &Layout) -> Component {
    let pki = |file: &str| path(&layout.join("pki").join(file));
    let mut arguments = as_user(layout, "kube-controller-manager");
    arguments.extend([
        format!("--service-account-private-key-file={}", pki("service-accounts.key")),
        format!("--root-ca-file={}", pki("ca.crt")),
        format!("--cluster-signing-cert-file={}", pki("ca.crt")),
        format!("--cluster-signing-key-file={}", pki("ca.key")),
        format!("--service-cluster-ip-range={SERVICE_RANGES}"),
        "--use-service-account-credentials=true".into(),
        // `up` gives each node the range that its CNI configuration names.
        "--allocate-node-cidrs=false".into(),
        // 150 pods and 2,000 Services at once must not wait for the client's own limit.
        "--kube-api-qps=200".into(),
        "--kube-api-burst=400".into(),
    ]);
    component(layout, "kube-controller-manager", arguments)
}

fn scheduler(layout: &Layout) -> Component {
    let mut arguments = as_user(layout, "kube-scheduler");
    arguments.extend(words(&["--kube-api-qps=200", "--kube-api-burst=400"]));
    component(layout, "kube-scheduler", arguments)
}

/// Arguments of a component that is a client of the API server, alone of its kind.
fn as_user(layout: &Layout, name: &str) -> Vec<String> {
    let kubeconfig = path(&layout.join(format!("{name}.kubeconfig")));
    vec![
        format!("--kubeconfig={kubeconfig}"),
        format!("--authentication-kubeconfig={kubeconfig}"),
        format!("--authorization-kubeconfig={kubeconfig}"),
        "--bind-address=127.0.0.1".into(),
        "--leader-elect=false".into(),
    ]
}

fn component(layout: &Layout, name: &str, arguments: Vec<String>) -> Component {
    let mut words = vec![path(&layout.programs().join(name))];
    words.extend(arguments);
    Component {
        name: name.into(),
        words,
        log: layout.log(super::layout::CONTROL_PLANE, name),
        cgroup: None,
        needs: None,
        at_boot: false,
        polite: true,
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

fn path(path: &Path) -> String {
    path.display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout() -> Layout {
        Layout::new(Path::new("/c")).unwrap()
    }

    #[test]
    fn the_control_plane_authorizes_by_node_and_rbac_and_its_files_are_the_clusters() {
        let spec = control_plane(&layout(), &[]);
        let api_server = spec.components.iter().find(|it| it.name == "kube-apiserver").unwrap();
        assert!(api_server.words.contains(&"--authorization-mode=Node,RBAC".to_owned()));
        for component in &spec.components {
            for word in component.words.iter().filter(|word| word.contains("=/")) {
                assert!(word.contains("=/c/"), "{word}");
            }
        }
    }

    #[test]
    fn a_nodes_kubelet_has_a_cgroup_that_its_pods_do_not_share() {
        let (layout, first) = (layout(), Node::first(1).next().unwrap());
        let components = node(&layout, first);
        let kubelet = components.iter().find(|it| it.name == "kubelet").unwrap();
        assert_eq!(
            kubelet.cgroup.as_deref(),
            Some(format!("{}/kubelet", layout.cgroup(first)).as_str())
        );
        assert!(components.iter().all(|it| it.at_boot), "a node comes back by itself");
    }
}
