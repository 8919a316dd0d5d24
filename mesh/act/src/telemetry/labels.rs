//! The labels of the field's standard metrics (Istio's names), resolved once per label set.

use std::{net::SocketAddr, sync::Arc};

use decide::model::{Decider, Identity, ServiceKey, Workload};
use metrics::Label;

const UNKNOWN: &str = "unknown";

/// Who reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reporter {
    /// The client's ztunnel.
    Source,
    /// The server's ztunnel.
    Destination,
    /// A waypoint.
    Waypoint,
}

/// How the connection is protected on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// Mutual TLS (HBONE).
    MutualTls,
    /// Between two pods of one node, in their ztunnel's memory: both identities are proven, the same policies judge,
    /// and nothing is on a wire. Metrics say `mutual_tls`, because dashboards and alerts ask that label which
    /// traffic is unauthenticated or in the clear, and this is neither; the log says `way=same-node` beside it.
    SameNode,
    /// Plaintext.
    None,
}

/// One side of a flow. What is not known stays empty and is reported as `unknown`.
#[derive(Debug, Clone, Default)]
pub struct Party {
    /// Its workload, if known.
    pub workload: Option<Arc<Workload>>,
    /// Its verified identity, if it has one.
    pub identity: Option<Identity>,
    /// Its address and port.
    pub address: Option<SocketAddr>,
}

/// Everything the metrics and the log say about a flow before it starts.
#[derive(Debug, Clone)]
pub struct FlowLabels {
    /// Who reports.
    pub reporter: Reporter,
    /// The client.
    pub source: Party,
    /// The server (the picked endpoint, where one was picked).
    pub destination: Party,
    /// The Service that was addressed, if one was.
    pub service: Option<ServiceKey>,
    /// How it is protected.
    pub security: Security,
    /// The rule that allowed it, if one was needed: written to the log.
    pub allowed_by: Option<Decider>,
}

/// What of [`FlowLabels`] tells one series from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SeriesKey {
    reporter: Reporter,
    security: &'static str,
    source: PartyKey,
    destination: PartyKey,
    service: Option<ServiceKey>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PartyKey {
    workload: Option<(Arc<str>, Arc<str>)>,
    app: Option<Arc<str>>,
    version: Option<Arc<str>>,
    identity: Option<Identity>,
}

impl Reporter {
    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Destination => "destination",
            Self::Waypoint => "waypoint",
        }
    }
}

impl Security {
    /// The label's value.
    pub fn label(self) -> &'static str {
        match self {
            Self::MutualTls | Self::SameNode => "mutual_tls",
            Self::None => "none",
        }
    }

    /// Value of `way` in the log, where it is not the wire.
    pub fn way(self) -> Option<&'static str> {
        (self == Self::SameNode).then_some("same-node")
    }
}

impl FlowLabels {
    pub(super) fn key(&self) -> SeriesKey {
        SeriesKey {
            reporter: self.reporter,
            security: self.security.label(),
            source: self.source.key(),
            destination: self.destination.key(),
            service: self.service.clone(),
        }
    }
}

impl Party {
    fn key(&self) -> PartyKey {
        let label = |names: [&str; 2]| {
            let labels = &self.workload.as_ref()?.labels;
            names.iter().find_map(|name| labels.get(*name)).cloned()
        };
        PartyKey {
            workload: self
                .workload
                .as_ref()
                .map(|it| (it.owner.clone(), it.namespace.clone())),
            app: label(["app.kubernetes.io/name", "app"]),
            version: label(["app.kubernetes.io/version", "version"]),
            identity: self.identity.clone(),
        }
    }
}

impl SeriesKey {
    /// Labels that every family of ours carries, under Istio's names.
    pub(super) fn labels(&self) -> Vec<Label> {
        let mut labels = vec![
            Label::from_static_parts("reporter", self.reporter.label()),
            Label::from_static_parts("connection_security_policy", self.security),
        ];
        self.source.push("source", &mut labels);
        self.destination.push("destination", &mut labels);
        let (host, name, namespace) = self.service.as_ref().map_or_else(
            || (UNKNOWN.into(), UNKNOWN.into(), UNKNOWN.into()),
            |it| {
                (
                    format!("{}.{}.svc.cluster.local", it.name, it.namespace),
                    it.name.to_string(),
                    it.namespace.to_string(),
                )
            },
        );
        labels.push(Label::new("destination_service", host));
        labels.push(Label::new("destination_service_name", name));
        labels.push(Label::new("destination_service_namespace", namespace));
        labels
    }
}

impl PartyKey {
    fn push(&self, side: &'static str, labels: &mut Vec<Label>) {
        let (workload, namespace) = match &self.workload {
            Some((owner, namespace)) => (&**owner, &**namespace),
            None => (UNKNOWN, UNKNOWN),
        };
        let app = self.app.as_deref().unwrap_or(workload);
        let version = self.version.as_deref().unwrap_or(UNKNOWN);
        let principal = self
            .identity
            .as_ref()
            .map_or_else(|| UNKNOWN.to_owned(), ToString::to_string);
        labels.push(Label::new(format!("{side}_workload"), workload.to_owned()));
        labels.push(Label::new(format!("{side}_workload_namespace"), namespace.to_owned()));
        labels.push(Label::new(format!("{side}_principal"), principal));
        labels.push(Label::new(format!("{side}_app"), app.to_owned()));
        labels.push(Label::new(format!("{side}_version"), version.to_owned()));
        labels.push(Label::new(format!("{side}_canonical_service"), app.to_owned()));
        labels.push(Label::new(format!("{side}_canonical_revision"), version.to_owned()));
    }
}

/// The labels of flows beyond the bound on series.
pub(super) fn overflow() -> Vec<Label> {
    vec![
        Label::from_static_parts("reporter", "overflow"),
        Label::from_static_parts("connection_security_policy", "overflow"),
    ]
}
