//! The mesh's own programs, as their manifests would start them: pods whose command is `ca`, `ztunnel`, `weft-cni`
//! or `waypoint`, with the flags that only the world can know.

use std::path::Path;

use act::process::Failure;

use super::{
    issuer::{Issuer, replace},
    network::Node,
    objects::{Objects, Pod},
    pods,
    processes::Launch,
    run::RunDirectory,
    state::Settings,
};

/// Where the CA listens.
pub(super) const CA_PORT: u16 = 15012;
/// The name the CA's certificate bears.
pub const CA_NAME: &str = "ca.weft-system.svc";

/// The parts of the mesh that the world starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Ca,
    Ztunnel,
    Cni,
    Waypoint,
}

impl Part {
    /// The part a pod runs, if it is one of the mesh's own.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        match pod.spec.containers.first()?.command.first()?.as_str() {
            "ca" => Some(Self::Ca),
            "ztunnel" => Some(Self::Ztunnel),
            "weft-cni" => Some(Self::Cni),
            "waypoint" => Some(Self::Waypoint),
            _ => None,
        }
    }

    /// Programs of one node must not share these: admin, metrics, readiness.
    fn ports(self) -> [u16; 3] {
        match self {
            Self::Ztunnel | Self::Waypoint => [15000, 15020, 15021],
            Self::Ca => [15100, 15120, 15121],
            Self::Cni => [15200, 15220, 15221],
        }
    }
}

/// Where a pod of the mesh tells its metrics.
pub(super) fn metrics_address(pod: &Pod) -> Option<String> {
    let [_, metrics, _] = Part::of(pod)?.ports();
    Some(format!("{}:{metrics}", pod.addresses.first()?))
}

/// How a pod of the mesh is started.
///
/// # Errors
/// When its command is empty, its node unknown, or no pod runs the CA.
pub(super) fn launch(pod: &Pod, objects: &Objects, run: &RunDirectory, settings: &Settings) -> Result<Launch, Failure> {
    let (Some(part), Some(container)) = (Part::of(pod), pod.spec.containers.first()) else {
        return Err(Failure(format!("Pod {} runs nothing of the mesh", pod.key())));
    };
    let node = Node::named(&pod.node)
        .ok_or_else(|| Failure(format!("Pod {} is on {:?}, which is no node", pod.key(), pod.node)))?;
    let mut words = if pod.host_network {
        node.enter()
    } else {
        pods::enter(pod, Some(container), run)
    };
    if part == Part::Ztunnel && pod.node == "node-1" {
        words.extend(clock(settings));
    }
    let mut command = container.command.iter().chain(&container.args);
    if let Some(program) = command.next() {
        words.push(settings.programs.join(program).display().to_string());
    }
    words.extend(command.cloned());
    words.extend(common_flags(part, pod, run, settings));
    words.extend(match part {
        Part::Ca => ca_flags(run, settings),
        Part::Cni => node_flags(pod, run),
        Part::Ztunnel => [node_flags(pod, run), authority_flags(pod, objects, run, settings)?].concat(),
        Part::Waypoint => [waypoint_flags(pod), authority_flags(pod, objects, run, settings)?].concat(),
    });
    let name = pod.short_name();
    Ok(Launch {
        log: run.log(&name),
        name,
        words,
    })
}

/// Puts a library between the program and the wall clock; timers go by the other clock, which is left alone.
fn clock(settings: &Settings) -> Vec<String> {
    let Some((library, file)) = &settings.clock else {
        return Vec::new();
    };
    vec![
        "env".into(),
        format!("LD_PRELOAD={}", library.display()),
        format!("FAKETIME_TIMESTAMP_FILE={}", file.display()),
        "FAKETIME_CACHE_DURATION=1".into(),
        "DONT_FAKE_MONOTONIC=1".into(),
    ]
}

/// Writes the CA's issuers file: the API server's stand-in, and one whose subject `envoy` may hold one identity.
///
/// # Errors
/// When it cannot be written.
pub(super) fn write_issuers(run: &RunDirectory, api: &Issuer, machines: &Issuer) -> Result<(), Failure> {
    let text = format!(
        "issuers:
- issuer: {}
  jwks: {{file: {}}}
  audiences: [weft-ca]
  kubernetes: true
- issuer: {}
  jwks: {{file: {}}}
  audiences: [weft-ca]
  identities:
    envoy: [spiffe://cluster.local/ns/shop/sa/envoy]
",
        api.name(),
        run.join("api.jwks").display(),
        machines.name(),
        run.join("machines.jwks").display(),
    );
    replace(&run.join("issuers.yaml"), &text)
}

/// Where the token of a pod of the mesh is kept.
pub(super) fn token_path(pod: &Pod, run: &RunDirectory) -> std::path::PathBuf {
    run.join("tokens").join(pod.short_name())
}

/// Where the CA is, as clients are told: `https://HOST:15012`.
pub(super) fn authority(objects: &Objects) -> Result<String, Failure> {
    let pod = objects.pods.values().find(|pod| Part::of(pod) == Some(Part::Ca));
    let node = pod.and_then(|pod| Node::named(&pod.node));
    let node = node.ok_or_else(|| Failure("no Pod runs `ca` on a node of the world; add one".into()))?;
    Ok(format!("https://{}:{CA_PORT}", node.address()))
}

fn common_flags(part: Part, pod: &Pod, run: &RunDirectory, settings: &Settings) -> Vec<String> {
    let [admin, metrics, ready] = part.ports();
    let mut flags = vec![
        flag("config", path(&settings.config)),
        flag("log-format", "json"),
        flag("admin-socket", path(&run.socket(&pod.short_name()))),
        flag("admin", format_args!("127.0.0.1:{admin}")),
        flag("metrics", format_args!("0.0.0.0:{metrics}")),
        flag("ready", format_args!("0.0.0.0:{ready}")),
    ];
    if let Some(level) = &settings.log {
        flags.push(flag("log", level));
    }
    flags
}

fn ca_flags(run: &RunDirectory, settings: &Settings) -> Vec<String> {
    vec![
        flag("listen", format_args!("0.0.0.0:{CA_PORT}")),
        flag("state", path(&run.join("ca"))),
        flag("issuers", path(&run.join("issuers.yaml"))),
        flag("name", CA_NAME),
        flag("leaf-life", humantime::format_duration(settings.leaf_life)),
    ]
}

fn node_flags(pod: &Pod, run: &RunDirectory) -> Vec<String> {
    let mut flags = vec![
        flag("node", &pod.node),
        flag("zds", path(&run.join(format!("{}.zds", pod.node)))),
    ];
    if Part::of(pod) == Some(Part::Cni) {
        flags.push(flag("netns-dir", path(&run.join("netns").join(&pod.node))));
    }
    flags
}

fn waypoint_flags(pod: &Pod) -> Vec<String> {
    let gateway = pod.gateway().unwrap_or("");
    vec![
        flag("gateway", format_args!("{}/{gateway}", pod.namespace)),
        flag("pod", pod.key()),
        flag("listen", "0.0.0.0:15008"),
    ]
}

fn authority_flags(
    pod: &Pod,
    objects: &Objects,
    run: &RunDirectory,
    settings: &Settings,
) -> Result<Vec<String>, Failure> {
    Ok(vec![
        flag("leaf-life", humantime::format_duration(settings.leaf_life)),
        flag("ca", authority(objects)?),
        flag("ca-root", path(&run.join("ca/root.pem"))),
        flag("ca-name", CA_NAME),
        flag("token", path(&token_path(pod, run))),
    ])
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

fn path(path: &Path) -> String {
    path.display().to_string()
}
