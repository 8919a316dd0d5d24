//! The files of a cluster: certificates, kubeconfigs, each machine's configuration and boot script, each node's root.
//! From a layout and options to files in its directory; nothing is mounted here.

use std::{
    fs,
    os::unix::fs::{DirBuilderExt, symlink},
    path::Path,
    process::Command,
};

use act::process::Failure;

use super::{
    components::{self, API_HOSTS, NODE_PROGRAMS},
    kubeconfig::kubeconfig,
    layout::{API_SERVER, CONTROL_PLANE, CONTROL_PLANE_ADDRESSES, DNS, Layout, Node, POD_RANGES},
    machine::{NodeSpec, Spec},
    pki::{self, Authority, Credential, Subject},
    programs::PLUGINS,
    template::fill,
};

/// The names the Kubernetes binary goes by.
const PROGRAMS: [&str; 8] = [
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-proxy",
    "kube-scheduler",
    "kubectl",
    "kubelet",
    "kubernetes",
];
/// What a node's `/etc` takes from the host's: what programs need to start, and nothing of the host's own setting.
const FROM_ETC: [&str; 9] = [
    "alternatives",
    "group",
    "iproute2",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "nsswitch.conf",
    "passwd",
    "protocols",
];

/// What the files say.
#[derive(Debug, Clone)]
pub(super) struct Settings<'a> {
    /// The nodes there will be.
    pub(super) nodes: &'a [Node],
    /// The Kubernetes binary.
    pub(super) kubernetes: &'a Path,
    /// kube-proxy's mode.
    pub(super) proxy_mode: &'a str,
}

/// Writes everything into a fresh directory that only its owner reads.
///
/// # Errors
/// Names what cannot be written.
pub(super) fn write(layout: &Layout, settings: &Settings<'_>) -> Result<(), Failure> {
    directory(layout.directory())?;
    for part in ["bin", "logs", "nodes", "pki"] {
        directory(&layout.join(part))?;
    }
    link_programs(&layout.programs(), settings.kubernetes)?;
    let authority = Authority::new()?;
    write_control_plane(layout, settings, &authority)?;
    for node in settings.nodes {
        write_node(layout, settings, &authority, *node)?;
    }
    Ok(())
}

fn write_control_plane(layout: &Layout, settings: &Settings<'_>, authority: &Authority) -> Result<(), Failure> {
    let pki = layout.join("pki");
    let issue = |user, group, hosts| authority.issue(Subject { user, group, hosts });
    let certificates = [
        ("ca", authority.credential()),
        ("kube-apiserver", issue("kube-apiserver", None, &API_HOSTS)?),
        (
            "kube-apiserver-kubelet",
            issue("kube-apiserver-kubelet", Some("system:masters"), &[])?,
        ),
        ("front-proxy", issue("front-proxy", None, &[])?),
    ];
    for (name, credential) in &certificates {
        save(&pki, name, "crt", credential)?;
    }
    save(&pki, "service-accounts", "pub", &pki::service_accounts()?)?;
    let users = [
        ("admin", "kubernetes-admin", Some("system:masters")),
        ("kube-controller-manager", "system:kube-controller-manager", None),
        ("kube-scheduler", "system:kube-scheduler", None),
    ];
    for (file, user, group) in users {
        let text = user_config(layout, authority, user, group)?;
        text_file(&layout.join(format!("{file}.kubeconfig")), &text)?;
    }
    components::control_plane(layout, settings.nodes).write(&layout.spec(CONTROL_PLANE))?;
    let routes: Vec<_> = settings
        .nodes
        .iter()
        .flat_map(|node| {
            let ([v4, v6], [pods4, pods6]) = (node.addresses(), node.pods());
            [
                format!("ip route add {pods4} via {v4}"),
                format!("ip route add {pods6} via {v6}"),
            ]
        })
        .collect();
    let [v4, v6] = CONTROL_PLANE_ADDRESSES;
    let text = boot(
        layout,
        include_str!("../../cluster/control-plane/boot.sh"),
        CONTROL_PLANE,
        [v4, v6],
        &routes,
    )?;
    text_file(&layout.join(format!("{CONTROL_PLANE}.sh")), &text)
}

fn write_node(layout: &Layout, settings: &Settings<'_>, authority: &Authority, node: Node) -> Result<(), Failure> {
    let (root, name) = (layout.root(node), node.name());
    for part in [
        "etc/cni/net.d",
        "etc/containerd",
        "etc/kubernetes/pki",
        "opt/cni/bin",
        "root",
        "var/lib",
        "var/log",
    ] {
        directory(&root.join(part))?;
    }
    let programs = root.join(NODE_PROGRAMS.trim_start_matches('/'));
    directory(&programs)?;
    link_programs(&programs, Path::new("kubernetes"))?;
    link(Path::new("/run"), &root.join("var/run"))?;
    write_etc(&root, &name)?;
    for plugin in fs::read_dir(PLUGINS).into_iter().flatten().flatten() {
        link(&plugin.path(), &root.join("opt/cni/bin").join(plugin.file_name()))?;
    }
    write_configs(layout, settings, node)?;
    write_identities(layout, authority, node)?;
    let components = components::node(layout, node);
    let spec = Spec {
        name: name.clone(),
        node: Some(NodeSpec {
            root,
            kubernetes: settings.kubernetes.to_owned(),
            cgroup: layout.cgroup(node),
        }),
        components,
    };
    spec.write(&layout.spec(&name))?;
    let [v4, v6] = node.addresses();
    let text = boot(
        layout,
        include_str!("../../cluster/node/boot.sh"),
        &name,
        [&v4, &v6],
        &node_routes(settings.nodes, node),
    )?;
    text_file(&layout.join(format!("{name}.sh")), &text)
}

/// Configurations of a node's components.
fn write_configs(layout: &Layout, settings: &Settings<'_>, node: Node) -> Result<(), Failure> {
    let (root, name) = (layout.root(node), node.name());
    let [pods4, pods6] = node.pods();
    let cgroup = layout.cgroup(node);
    let values = [
        ("NODE", name.as_str()),
        ("CGROUP", &cgroup),
        ("DNS", DNS[0]),
        ("PODS_V4", &pods4),
        ("PODS_V6", &pods6),
        ("POD_RANGES", POD_RANGES),
        ("PROXY_MODE", settings.proxy_mode),
        ("VERSION", env!("CARGO_PKG_VERSION")),
    ];
    for (file, template) in [
        (
            "cni/net.d/10-pods.conflist",
            include_str!("../../cluster/node/pods.conflist"),
        ),
        (
            "containerd/config.toml",
            include_str!("../../cluster/node/containerd.toml"),
        ),
        (
            "kubernetes/kubelet.yaml",
            include_str!("../../cluster/node/kubelet.yaml"),
        ),
        (
            "kubernetes/kube-proxy.yaml",
            include_str!("../../cluster/node/kube-proxy.yaml"),
        ),
    ] {
        text_file(&root.join("etc").join(file), &fill(template, &values)?)?;
    }
    Ok(())
}

/// Who a node's components are to the API server.
fn write_identities(layout: &Layout, authority: &Authority, node: Node) -> Result<(), Failure> {
    let (root, name) = (layout.root(node), node.name());
    let [v4, v6] = node.addresses();
    let (user, hosts) = (format!("system:node:{name}"), [name.as_str(), &v4, &v6]);
    let kubelet = authority.issue(Subject {
        user: &user,
        group: Some("system:nodes"),
        hosts: &hosts,
    })?;
    let pki = root.join("etc/kubernetes/pki");
    text_file(&pki.join("ca.crt"), &authority.credential().certificate)?;
    save(&pki, "kubelet", "crt", &kubelet)?;
    let config = |user: &Credential| kubeconfig(&layout.name(), API_SERVER, &authority.credential().certificate, user);
    text_file(&root.join("etc/kubernetes/kubelet.kubeconfig"), &config(&kubelet))?;
    let proxy = user_config(layout, authority, "system:kube-proxy", None)?;
    text_file(&root.join("etc/kubernetes/kube-proxy.kubeconfig"), &proxy)
}

/// The way from a node to the others' pods, and to the control plane for everything else.
fn node_routes(nodes: &[Node], node: Node) -> Vec<String> {
    let name = node.name();
    let mut routes: Vec<_> = CONTROL_PLANE_ADDRESSES
        .iter()
        .map(|gateway| format!("ip -n {name} route add default via {gateway}"))
        .collect();
    for other in nodes.iter().filter(|other| **other != node) {
        for (range, gateway) in other.pods().iter().zip(other.addresses()) {
            routes.push(format!("ip -n {name} route add {range} via {gateway}"));
        }
    }
    routes
}

fn boot(
    layout: &Layout,
    template: &str,
    machine: &str,
    [v4, v6]: [&str; 2],
    routes: &[String],
) -> Result<String, Failure> {
    let program = std::env::current_exe().map_err(|error| Failure(format!("this program cannot be found: {error}")))?;
    fill(
        template,
        &[
            ("NODE", machine),
            ("V4", v4),
            ("V6", v6),
            ("ROUTES", &routes.join("\n")),
            ("PROGRAM", &program.display().to_string()),
            ("SPEC", &layout.spec(machine).display().to_string()),
            ("SOCKET", &layout.socket(machine).display().to_string()),
        ],
    )
}

fn user_config(layout: &Layout, authority: &Authority, user: &str, group: Option<&str>) -> Result<String, Failure> {
    let credential = authority.issue(Subject {
        user,
        group,
        hosts: &[],
    })?;
    let certificate = authority.credential().certificate;
    Ok(kubeconfig(&layout.name(), API_SERVER, &certificate, &credential))
}

fn write_etc(root: &Path, name: &str) -> Result<(), Failure> {
    let etc = root.join("etc");
    for part in FROM_ETC {
        let host = Path::new("/etc").join(part);
        if !host.exists() {
            continue;
        }
        let copied = Command::new("cp").arg("-a").arg(&host).arg(&etc).status();
        if !copied.is_ok_and(|status| status.success()) {
            return Err(Failure(format!(
                "{} cannot be copied into {}",
                host.display(),
                etc.display()
            )));
        }
    }
    // Any 32 digits; each node has its own.
    text_file(
        &etc.join("machine-id"),
        &format!("{name:0>32}\n").replace(|it: char| !it.is_ascii_hexdigit() && it != '\n', "0"),
    )?;
    text_file(&etc.join("hostname"), &format!("{name}\n"))?;
    text_file(&etc.join("hosts"), "127.0.0.1 localhost\n::1 localhost\n")?;
    text_file(&etc.join("resolv.conf"), "")
}

fn link_programs(at: &Path, binary: &Path) -> Result<(), Failure> {
    for program in PROGRAMS {
        if Path::new(program) != binary {
            link(binary, &at.join(program))?;
        }
    }
    Ok(())
}

fn save(at: &Path, name: &str, public: &str, credential: &Credential) -> Result<(), Failure> {
    text_file(&at.join(format!("{name}.{public}")), &credential.certificate)?;
    text_file(&at.join(format!("{name}.key")), &credential.key)
}

fn directory(path: &Path) -> Result<(), Failure> {
    let mode = if path.ends_with("pki") { 0o700 } else { 0o755 };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(|error| Failure(format!("{} cannot be made: {error}", path.display())))
}

fn link(target: &Path, at: &Path) -> Result<(), Failure> {
    symlink(target, at).map_err(|error| Failure(format!("{} cannot be made: {error}", at.display())))
}

fn text_file(path: &Path, text: &str) -> Result<(), Failure> {
    fs::write(path, text).map_err(|error| Failure(format!("{} cannot be written: {error}", path.display())))
}
