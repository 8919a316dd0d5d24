//! What a question means: names and addresses as people write them, to objects of the snapshot.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::{Question, near::did_you_mean, words::full_name};
use crate::{
    hop::candidates,
    model::{ExternalService, Phase, Service, Workload},
    path::normalise,
    snapshot::Snapshot,
    verdict,
};

/// Who connects.
#[derive(Debug, Clone)]
pub(super) enum Client {
    Pod(Arc<Workload>),
    /// Nobody the mesh knows.
    Address(IpAddr),
}

/// What is connected to.
#[derive(Debug)]
pub(super) struct Destination {
    pub(super) address: SocketAddr,
    /// The host as a client would write it into its request.
    host: String,
}

/// A request, owned.
#[derive(Debug)]
pub(super) struct Request {
    method: String,
    path: String,
    query: String,
    host: String,
    headers: HeaderMap,
}

impl Request {
    pub(super) fn head(&self) -> verdict::Request<'_> {
        verdict::Request {
            method: &self.method,
            path: &self.path,
            query: &self.query,
            host: &self.host,
            headers: &self.headers,
        }
    }
}

/// Who `text` names: an address, `namespace/pod`, or the name of a pod that no other has.
pub(super) fn client(snapshot: &Snapshot, text: &str) -> Result<Client, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let address = address.to_canonical();
        return Ok(match snapshot.workload_at(address) {
            Some(workload) => Client::Pod(workload.clone()),
            None => Client::Address(address),
        });
    }
    let pod = match text.split_once('/') {
        Some((namespace, name)) => pods(snapshot)
            .find(|pod| *pod.namespace == *namespace && *pod.name == *name)
            .ok_or_else(|| format!("no pod {text}{}", did_you_mean(text, pods(snapshot).map(full_name))))?,
        None => only_pod(snapshot, text)?,
    };
    match pod.phase {
        Phase::Finished => Err(format!("pod {} has finished and connects to nothing", full_name(pod))),
        _ => Ok(Client::Pod(pod.clone())),
    }
}

/// What `text` names: `address:port`, or a Service, else a pod, as `name.namespace`, `namespace/name` or `name`
/// (in the client's namespace first), with `:port` unless there is only one.
pub(super) fn destination(snapshot: &Snapshot, text: &str, from: &Client) -> Result<Destination, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(at(SocketAddr::new(address.ip().to_canonical(), address.port())));
    }
    if text.parse::<IpAddr>().is_ok() {
        return Err(format!("{text} has no port: write it as address:port"));
    }
    let (name, port) = match text.rsplit_once(':') {
        None => (text, None),
        Some((name, port)) => {
            let number = port.parse::<u16>().ok().filter(|port| *port > 0);
            let number =
                number.ok_or_else(|| format!("{port:?} is no port: write the destination as name.namespace:port"))?;
            (name, Some(number))
        }
    };
    let (namespace, short) = split_name(name);
    let own = match from {
        Client::Pod(pod) => Some(&*pod.namespace),
        Client::Address(_) => None,
    };
    if let Some(service) = service_named(snapshot, namespace, short, own)? {
        let port = port.map_or_else(
            || only_port(&service.key.to_string(), service.ports.iter().map(|it| it.port)),
            Ok,
        )?;
        return Ok(Destination {
            address: service_address(snapshot, service, port, from)?,
            host: host(&format!("{}.{}", service.key.name, service.key.namespace), port),
        });
    }
    if let Some(external) = own.and_then(|own| snapshot.external.named(&own.into(), name)) {
        return external_address(external, name, port, from);
    }
    let pod = match namespace {
        Some(namespace) => pods(snapshot).find(|pod| *pod.namespace == *namespace && *pod.name == *short),
        None => only_pod(snapshot, short).ok(),
    };
    let pod = pod.ok_or_else(|| nothing_named(snapshot, name))?;
    let port = port.map_or_else(|| only_port(&full_name(pod), pod.ports.iter().map(|it| it.port)), Ok)?;
    let ip = pod
        .addresses
        .first()
        .ok_or_else(|| format!("pod {} has no address yet", full_name(pod)))?;
    Ok(at(SocketAddr::new(*ip, port)))
}

/// The request asked about, checked as a proxy would.
pub(super) fn request(question: &Question, to: &Destination) -> Result<Option<Request>, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &question.headers {
        let parsed = name.parse::<HeaderName>().ok().zip(value.parse::<HeaderValue>().ok());
        let (name, value) = parsed.ok_or_else(|| format!("{name}: {value} is no HTTP header"))?;
        headers.append(name, value);
    }
    let Some((method, target)) = &question.request else {
        return match question.headers.is_empty() {
            true => Ok(None),
            false => Err("headers need a request: give METHOD PATH too".into()),
        };
    };
    let method = method
        .parse::<Method>()
        .map_err(|_| format!("{method:?} is no HTTP method"))?;
    let target = target.split('#').next().unwrap_or_default();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    if !path.starts_with('/') && path != "*" {
        return Err(format!("{path:?} is no path: it begins with /"));
    }
    // judged as the waypoint judges it
    let path = normalise(path).map_err(|why| format!("every waypoint answers 400 to {path:?}: {why}"))?;
    let named = headers.get("host").and_then(|value| value.to_str().ok());
    Ok(Some(Request {
        method: method.to_string(),
        path,
        query: query.to_owned(),
        host: named.unwrap_or(&to.host).to_ascii_lowercase(),
        headers,
    }))
}

fn pods(snapshot: &Snapshot) -> impl Iterator<Item = &Arc<Workload>> {
    snapshot.workloads.values()
}

fn only_pod<'s>(snapshot: &'s Snapshot, name: &str) -> Result<&'s Arc<Workload>, String> {
    let mut found: Vec<_> = pods(snapshot).filter(|pod| *pod.name == *name).collect();
    match (found.pop(), &*found) {
        (Some(pod), []) => Ok(pod),
        (Some(pod), others) => Err(ambiguous(name, others.iter().copied().chain([pod]).map(full_name))),
        (None, _) => {
            let near = did_you_mean(name, pods(snapshot).map(|pod| pod.name.to_string()));
            Err(format!("no pod {name}{near}"))
        }
    }
}

fn ambiguous(name: &str, full: impl Iterator<Item = String>) -> String {
    let mut full: Vec<_> = full.collect();
    full.sort();
    format!("several are named {name}; say which: {}", full.join(", "))
}

/// Namespace and name of `namespace/name`, `name.namespace`, `name.namespace.svc…` or `name`.
fn split_name(text: &str) -> (Option<&str>, &str) {
    if let Some((namespace, name)) = text.split_once('/') {
        return (Some(namespace), name);
    }
    let text = text.trim_end_matches('.');
    let inside = text
        .split_once(".svc")
        .filter(|(inside, rest)| inside.contains('.') && (rest.is_empty() || rest.starts_with('.')));
    match inside.map_or(text, |(inside, _)| inside).rsplit_once('.') {
        Some((name, namespace)) => (Some(namespace), name),
        None => (None, text),
    }
}

fn service_named<'s>(
    snapshot: &'s Snapshot,
    namespace: Option<&str>,
    name: &str,
    own: Option<&str>,
) -> Result<Option<&'s Arc<Service>>, String> {
    let mut found: Vec<_> = snapshot
        .services
        .values()
        .filter(|service| *service.key.name == *name && namespace.is_none_or(|it| *service.key.namespace == *it))
        .collect();
    if found.len() > 1
        && let Some(at) = found.iter().position(|service| Some(&*service.key.namespace) == own)
    {
        return Ok(Some(found.swap_remove(at)));
    }
    match &*found {
        [] => Ok(None),
        [service] => Ok(Some(service)),
        several => Err(ambiguous(name, several.iter().map(|service| service.key.to_string()))),
    }
}

fn nothing_named(snapshot: &Snapshot, name: &str) -> String {
    let services = || snapshot.services.values().map(|service| &service.key);
    let (namespace, short) = split_name(name);
    let near = match (namespace, name.contains('/')) {
        (Some(_), true) => did_you_mean(
            name,
            services().map(ToString::to_string).chain(pods(snapshot).map(full_name)),
        ),
        (Some(_), false) => did_you_mean(name, services().map(|key| format!("{}.{}", key.name, key.namespace))),
        (None, _) => {
            let names = services().map(|key| key.name.to_string());
            did_you_mean(short, names.chain(pods(snapshot).map(|pod| pod.name.to_string())))
        }
    };
    format!("no Service or pod {name}{near}")
}

fn only_port(name: &str, ports: impl Iterator<Item = u16>) -> Result<u16, String> {
    let ports: Vec<_> = ports.collect();
    match &*ports {
        [port] => Ok(*port),
        [] => Err(format!("which port of {name}? write it as {name}:port")),
        several => {
            let several: Vec<_> = several.iter().map(ToString::to_string).collect();
            Err(format!("which port of {name}? it has {}", several.join(", ")))
        }
    }
}

/// What the cluster's DNS would answer the client: the Service's address, or a pod's behind a headless one.
fn service_address(snapshot: &Snapshot, service: &Service, port: u16, from: &Client) -> Result<SocketAddr, String> {
    let v4 = match from {
        Client::Pod(pod) => pod.addresses.first().is_none_or(IpAddr::is_ipv4),
        Client::Address(address) => address.is_ipv4(),
    };
    let same_family = service.addresses.iter().find(|address| address.is_ipv4() == v4);
    if let Some(address) = same_family.or_else(|| service.addresses.first()) {
        return Ok(SocketAddr::new(*address, port));
    }
    let behind = candidates(snapshot, service, port)
        .ok()
        .and_then(|found| found.into_iter().next());
    behind.map(|candidate| candidate.address).ok_or_else(|| {
        format!(
            "Service {} has no address of its own and no ready endpoint with port {port}",
            service.key
        )
    })
}

/// What a client that was told a host of an ExternalService connects to.
fn external_address(
    external: &ExternalService,
    name: &str,
    port: Option<u16>,
    from: &Client,
) -> Result<Destination, String> {
    let port = port.map_or_else(|| only_port(name, external.ports.iter().map(|it| it.number)), Ok)?;
    let v4 = match from {
        Client::Pod(pod) => pod.addresses.first().is_none_or(IpAddr::is_ipv4),
        Client::Address(address) => address.is_ipv4(),
    };
    let single = || {
        external
            .networks
            .iter()
            .filter(|it| it.prefix_len() == it.max_prefix_len())
    };
    let found = single()
        .find(|it| it.addr().is_ipv4() == v4)
        .or_else(|| single().next());
    let found = found.ok_or_else(|| {
        format!(
            "{name} is a host of ExternalService {}, which gives no single address: ask about the address itself",
            external.key
        )
    })?;
    Ok(Destination {
        address: SocketAddr::new(found.addr(), port),
        host: host(name, port),
    })
}

fn at(address: SocketAddr) -> Destination {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    Destination {
        address,
        host: host(&ip, address.port()),
    }
}

/// The host header of a client that was told this name.
fn host(name: &str, port: u16) -> String {
    match port {
        80 => name.to_owned(),
        port => format!("{name}:{port}"),
    }
}
