//! The `spec` of an ExternalService, field by field: what can be read, and what nobody can.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use decide::model::{ExternalEndpoint, ExternalHost, ExternalPort, ExternalService, Resolution, Visibility};
use ipnet::IpNet;

use crate::config::{
    objects::{FieldError, Written},
    translate::{
        name::Name,
        written::{Field, shown},
    },
};

const REFUSED: &str = "connections to it are refused";
const FIELDS: &[&str] = &["hosts", "addresses", "ports", "resolution", "endpoints", "visibility"];
const PORT_FIELDS: &[&str] = &["number", "name", "protocol", "appProtocol", "targetPort"];
const ENDPOINT_FIELDS: &[&str] = &["address", "ports", "zone"];

/// Reading one `spec`.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// What cannot be read, so that nobody knows what was meant.
    pub(super) found: Vec<FieldError>,
    /// What can be read and means less than somebody may expect.
    pub(super) notes: Vec<FieldError>,
}

impl Reading {
    /// The ExternalService of this name, as far as it can be read; no waypoint's yet.
    pub(super) fn service(&mut self, name: &Name, written: &Written) -> ExternalService {
        let spec = Field::spec(&written.spec);
        self.unknown(&spec, FIELDS);
        let hosts = self.list(&spec, "hosts", host).unwrap_or_default();
        let hosts = self.own_hosts(hosts);
        let networks: Vec<IpNet> = self.list(&spec, "addresses", network).unwrap_or_default();
        if networks.is_empty() {
            self.notes.push(FieldError::new(
                "spec.addresses",
                "is empty: no connection is recognised as going to it.",
                "Give the addresses its connections are made to, or virtual ones.",
            ));
        }
        let ports = self.ports(&spec);
        let resolution = self.choice(
            &spec,
            "resolution",
            &[
                ("None", Resolution::None),
                ("Static", Resolution::Static),
                ("DNS", Resolution::Dns),
            ],
        );
        let resolution = resolution.unwrap_or(Resolution::None);
        let visibility = self.choice(
            &spec,
            "visibility",
            &[("Namespace", Visibility::Namespace), ("Mesh", Visibility::Mesh)],
        );
        let endpoints = self.endpoints(&spec, resolution, &ports, &hosts);
        ExternalService {
            key: name.service_key(),
            hosts,
            networks,
            ports,
            resolution,
            endpoints: endpoints.into(),
            visibility: visibility.unwrap_or(Visibility::Namespace),
            waypoint: None,
            policies: Arc::default(),
            broken: None,
        }
    }

    fn unknown(&mut self, field: &Field<'_>, known: &[&'static str]) {
        let unknown = field.unknown(known).into_iter();
        self.found
            .extend(unknown.map(|(field, meant)| field.unknown_error(meant, REFUSED)));
    }

    fn unreadable(&mut self, field: &Field<'_>, remedy: &str) {
        let written = field.text().map_or_else(|| field.value.to_string(), str::to_owned);
        self.found
            .push(field.error(format!("{} cannot be read; {REFUSED}.", shown(&written)), remedy));
    }

    /// What a list holds, each once and in order; what cannot be read is told.
    fn list<T: Ord>(&mut self, of: &Field<'_>, key: &str, read: fn(&str) -> Result<T, &'static str>) -> Option<Vec<T>> {
        let field = of.get(key)?;
        let Some(items) = field.items() else {
            self.unreadable(&field, "Write a list.");
            return None;
        };
        let mut all = BTreeSet::new();
        for item in items {
            match item.text().ok_or("Write a text.").and_then(read) {
                Ok(one) => drop(all.insert(one)),
                Err(remedy) => self.unreadable(&item, remedy),
            }
        }
        Some(all.into_iter().collect())
    }

    fn choice<T: Copy>(&mut self, of: &Field<'_>, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let field = of.get(key)?;
        let chosen = choices.iter().find(|(name, _)| field.text() == Some(name));
        if chosen.is_none() {
            self.unreadable(&field, "Write one of the values the schema names.");
        }
        chosen.map(|(_, value)| *value)
    }

    /// Names of the cluster are the cluster's to answer.
    fn own_hosts(&mut self, hosts: Vec<Arc<str>>) -> Vec<Arc<str>> {
        let (of_cluster, own): (Vec<_>, Vec<_>) = hosts.into_iter().partition(|host| is_of_cluster(host));
        let notes = of_cluster.into_iter().map(|host| {
            FieldError::new(
                "spec.hosts",
                format!("{host} is a name of the cluster, which the cluster's DNS answers; here it means nothing."),
                "Name a host outside the cluster.",
            )
        });
        self.notes.extend(notes);
        own
    }

    fn ports(&mut self, spec: &Field<'_>) -> Vec<ExternalPort> {
        let Some(field) = spec.get("ports") else {
            return Vec::new();
        };
        let items = field.items().filter(|items| !items.is_empty());
        if items.is_none() {
            self.unreadable(&field, "Write a list of ports, or leave it out for every port.");
        }
        let mut ports: Vec<ExternalPort> = Vec::new();
        for item in items.into_iter().flatten() {
            self.unknown(&item, PORT_FIELDS);
            self.choice(&item, "protocol", &[("TCP", ())]);
            let Some(number) = item.get("number").and_then(|it| it.port()) else {
                self.unreadable(&item, "Give number, from 1 to 65535.");
                continue;
            };
            if ports.iter().any(|port| port.number == number) {
                self.unreadable(&item, "Give each port once.");
                continue;
            }
            let text = |key| item.get(key).and_then(|it| it.text().map(str::to_ascii_lowercase));
            let target = item.get("targetPort").map(|field| (field.port(), field));
            if let Some((None, field)) = &target {
                self.unreadable(field, "Write a port, from 1 to 65535.");
            }
            let name = text("name").unwrap_or_default();
            ports.push(ExternalPort {
                number,
                app_protocol: text("appProtocol").or_else(|| protocol_of(&name)).map(Into::into),
                name: name.into(),
                target: target.and_then(|(port, _)| port).unwrap_or(number),
            });
        }
        ports
    }

    fn endpoints(
        &mut self,
        spec: &Field<'_>,
        resolution: Resolution,
        ports: &[ExternalPort],
        hosts: &[Arc<str>],
    ) -> Vec<ExternalEndpoint> {
        let field = spec.get("endpoints");
        if resolution == Resolution::None || (resolution == Resolution::Static && field.is_none()) {
            if resolution == Resolution::Static || field.is_some() {
                let at = field.unwrap_or_else(|| spec.clone());
                self.found.push(at.error(
                    format!("does not fit the resolution; {REFUSED}."),
                    "Resolution Static needs endpoints, and None has none.",
                ));
            }
            return Vec::new();
        }
        let Some(field) = field else {
            return self.hosts_as_endpoints(spec, hosts);
        };
        let items = field.items().filter(|items| !items.is_empty());
        if items.is_none() {
            self.unreadable(&field, "Write a list of endpoints.");
        }
        let items = items.into_iter().flatten();
        items
            .filter_map(|item| self.endpoint(&item, resolution, ports))
            .collect()
    }

    fn hosts_as_endpoints(&mut self, spec: &Field<'_>, hosts: &[Arc<str>]) -> Vec<ExternalEndpoint> {
        let named = hosts.iter().filter(|host| !host.starts_with('*'));
        let endpoints: Vec<_> = named
            .map(|host| ExternalEndpoint {
                host: ExternalHost::Name(host.clone()),
                ports: Box::default(),
                zone: None,
            })
            .collect();
        if endpoints.is_empty() {
            self.found.push(spec.error(
                format!("names nothing that can be resolved; {REFUSED}."),
                "Give endpoints, or a host without a wildcard.",
            ));
        }
        endpoints
    }

    fn endpoint(
        &mut self,
        item: &Field<'_>,
        resolution: Resolution,
        ports: &[ExternalPort],
    ) -> Option<ExternalEndpoint> {
        self.unknown(item, ENDPOINT_FIELDS);
        let address = item.get("address");
        let host = address.as_ref().and_then(|field| {
            let text = field.text()?;
            if let Ok(address) = text.parse::<IpAddr>() {
                return Some(ExternalHost::Address(address.to_canonical()));
            }
            let name = host(text).ok().filter(|host| !host.starts_with('*'));
            name.filter(|_| resolution == Resolution::Dns).map(ExternalHost::Name)
        });
        let Some(host) = host else {
            let remedy = "Give address: an IP address, with resolution DNS a host name too.";
            self.unreadable(&address.unwrap_or_else(|| item.clone()), remedy);
            return None;
        };
        let mut own = Vec::new();
        let written = item.get("ports");
        if let Some(field) = written.as_ref().filter(|field| field.fields().is_none()) {
            self.unreadable(field, "Write names of ports and numbers.");
        }
        for (name, value) in written.iter().filter_map(Field::fields).flatten() {
            let number = ports.iter().find(|port| *port.name == **name).map(|port| port.number);
            let target = value
                .as_u64()
                .and_then(|it| u16::try_from(it).ok())
                .filter(|it| *it > 0);
            match (number, target, &written) {
                (Some(number), Some(target), _) => own.push((number, target)),
                (_, _, Some(field)) => self.unreadable(field, "Write the name of a port of spec.ports and a number."),
                _ => {}
            }
        }
        let zone = item.get("zone").and_then(|it| it.text().map(Arc::from));
        Some(ExternalEndpoint {
            host,
            ports: own.into(),
            zone: zone.filter(|zone: &Arc<str>| !zone.is_empty()),
        })
    }
}

/// What the first part of a port's name tells of what is spoken over it.
fn protocol_of(name: &str) -> Option<String> {
    let prefix = name.split('-').next().unwrap_or_default();
    matches!(prefix, "http" | "http2" | "grpc" | "tcp" | "tls" | "https").then(|| prefix.to_owned())
}

fn is_of_cluster(host: &str) -> bool {
    host.ends_with(".svc") || host.contains(".svc.") || host == "cluster.local" || host.ends_with(".cluster.local")
}

fn host(text: &str) -> Result<Arc<str>, &'static str> {
    let name = text.strip_prefix("*.").unwrap_or(text);
    let label = |label: &str| {
        let inside = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        let edge = label.starts_with('-') || label.ends_with('-');
        !label.is_empty() && label.len() <= 63 && !edge && label.bytes().all(inside)
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err("Write a host name in lower case, perhaps with *. before it.");
    }
    Ok(text.into())
}

fn network(text: &str) -> Result<IpNet, &'static str> {
    let network = match text.parse::<IpNet>() {
        Ok(network) => network.trunc(),
        Err(_) => text
            .parse::<IpAddr>()
            .map_err(|_| "Write an address such as 240.0.0.7, or a network such as 192.0.2.0/24.")?
            .to_canonical()
            .into(),
    };
    Ok(network)
}
