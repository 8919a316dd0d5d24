//! The labels of the field's standard metrics (Istio's names), resolved once per label set.

use std::{fmt, net::SocketAddr, num::NonZeroU128, sync::Arc};

use decide::model::{Addressed, Decider, Identity, Workload};
use metrics::Label;

use super::options::Told;

const UNKNOWN: &str = "unknown";

/// Labels of a party that may be left out, in the order of [`PartyKey`]'s; then its principal.
const SOURCE: [&str; 8] = [
    "source_workload",
    "source_workload_namespace",
    "source_app",
    "source_version",
    "source_canonical_service",
    "source_canonical_revision",
    "source_cluster",
    "source_principal",
];
const DESTINATION: [&str; 8] = [
    "destination_workload",
    "destination_workload_namespace",
    "destination_app",
    "destination_version",
    "destination_canonical_service",
    "destination_canonical_revision",
    "destination_cluster",
    "destination_principal",
];
/// Further labels that may be left out.
const SERVICE: &str = "destination_service";
const SERVICE_NAME: &str = "destination_service_name";
const SERVICE_NAMESPACE: &str = "destination_service_namespace";
const SECURITY: &str = "connection_security_policy";
const OTHERS: [&str; 4] = [SERVICE, SERVICE_NAME, SERVICE_NAMESPACE, SECURITY];

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

/// Everything the metrics and the log say about a flow before it starts. Every open connection holds one: what most
/// do not have is apart.
#[derive(Debug, Clone)]
pub struct FlowLabels {
    /// Who reports.
    pub reporter: Reporter,
    /// The client.
    pub source: Party,
    /// The server (the picked endpoint, where one was picked).
    pub destination: Party,
    /// The Service or ExternalService that was addressed, if one was.
    pub service: Option<Addressed>,
    /// How it is protected.
    pub security: Security,
    /// The rule that allowed it, if one was needed: written to the log.
    pub allowed_by: Option<Box<Decider>>,
    /// The rule that would have refused it, were its policy no dry run: written to the log.
    pub would_deny: Option<Box<Decider>>,
    /// Its trace (W3C Trace Context), if it has one: written to the log.
    pub trace: Option<NonZeroU128>,
}

/// Labels that are left out of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Dropped(u32);

/// What of [`FlowLabels`] tells one series from another; what is dropped does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct SeriesKey {
    reporter: Reporter,
    security: Option<&'static str>,
    source: PartyKey,
    destination: PartyKey,
    service: Option<Arc<str>>,
    service_namespace: Option<Arc<str>>,
    /// Of an ExternalService, what it is known as.
    host: Option<Arc<str>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct PartyKey {
    values: [Option<Arc<str>>; 7],
    principal: Option<Identity>,
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

impl Dropped {
    /// Reads names of labels, separated by commas.
    ///
    /// # Errors
    /// One plain sentence that lists the labels that may be dropped.
    pub fn parse(names: &str) -> Result<Self, String> {
        let mut dropped = Self::default();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let at = Self::all().position(|known| known == name).ok_or_else(|| {
                let known: Vec<_> = Self::all().collect();
                format!(
                    "{name:?} is no label that can be dropped; these are: {}",
                    known.join(", ")
                )
            })?;
            dropped.0 |= 1 << at;
        }
        Ok(dropped)
    }

    fn all() -> impl Iterator<Item = &'static str> {
        SOURCE.into_iter().chain(DESTINATION).chain(OTHERS)
    }

    fn keeps(self, side: usize, label: usize) -> bool {
        self.0 & (1 << (side * SOURCE.len() + label)) == 0
    }
}

/// As [`Dropped::parse`] reads it.
impl fmt::Display for Dropped {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = Self::all().enumerate().filter(|(at, _)| self.0 & (1 << at) != 0);
        let names: Vec<_> = names.map(|(_, name)| name).collect();
        out.write_str(&names.join(","))
    }
}

impl FlowLabels {
    /// A flow of which nothing else is known yet.
    pub fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            source: Party::default(),
            destination: Party::default(),
            service: None,
            security: Security::None,
            allowed_by: None,
            would_deny: None,
            trace: None,
        }
    }

    pub(super) fn key(&self, told: &Told) -> SeriesKey {
        let dropped = told.dropped;
        let others = |label| dropped.keeps(2, label);
        let service = self.service.as_ref().map(Addressed::key);
        let host = match &self.service {
            Some(Addressed::External(service)) => Some(service.known_as().clone()),
            Some(Addressed::Service(_)) | None => None,
        };
        SeriesKey {
            reporter: self.reporter,
            security: others(3).then_some(self.security.label()),
            source: self.source.key(told, 0),
            destination: self.destination.key(told, 1),
            service: service
                .filter(|_| others(0) || others(1))
                .map(|service| service.name.clone()),
            service_namespace: service
                .filter(|_| others(0) || others(2))
                .map(|service| service.namespace.clone()),
            host: host.filter(|_| others(0)),
        }
    }
}

impl Party {
    fn key(&self, told: &Told, side: usize) -> PartyKey {
        let kept = |label| told.dropped.keeps(side, label);
        let workload = self.workload.as_deref();
        let label = |names: [&str; 3]| {
            let labels = &workload?.labels;
            names.iter().find_map(|name| labels.get(name)).cloned()
        };
        let owner = workload.map(|it| it.owner.clone());
        let canonical = ["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"];
        let revisions = [
            "service.istio.io/canonical-revision",
            "app.kubernetes.io/version",
            "version",
        ];
        let service = label(canonical).or_else(|| owner.clone());
        let revision = label(revisions).or_else(|| workload.map(|_| told.latest.clone()));
        let mut values = [
            owner,
            workload.map(|it| it.namespace.clone()),
            service.clone(),
            revision.clone(),
            service,
            revision,
            workload.map(|_| told.cluster.clone()),
        ];
        for (at, value) in values.iter_mut().enumerate() {
            value.take_if(|_| !kept(at));
        }
        PartyKey {
            values,
            principal: self.identity.clone().filter(|_| kept(7)),
        }
    }
}

impl SeriesKey {
    /// Labels that every family of ours carries, under Istio's names.
    pub(super) fn labels(&self, dropped: Dropped) -> Vec<Label> {
        let mut labels = vec![Label::from_static_parts("reporter", self.reporter.label())];
        if let Some(security) = self.security {
            labels.push(Label::from_static_parts(SECURITY, security));
        }
        self.source.push(SOURCE, |label| dropped.keeps(0, label), &mut labels);
        self.destination
            .push(DESTINATION, |label| dropped.keeps(1, label), &mut labels);
        let name = self.service.as_deref().unwrap_or(UNKNOWN);
        let namespace = self.service_namespace.as_deref().unwrap_or(UNKNOWN);
        let host = match (&self.host, &self.service) {
            (Some(host), _) => host.to_string(),
            (None, Some(_)) => format!("{name}.{namespace}.svc.cluster.local"),
            (None, None) => UNKNOWN.to_owned(),
        };
        let services = [
            (SERVICE, host),
            (SERVICE_NAME, name.to_owned()),
            (SERVICE_NAMESPACE, namespace.to_owned()),
        ];
        for (at, (label, value)) in services.into_iter().enumerate() {
            if dropped.keeps(2, at) {
                labels.push(Label::new(label, value));
            }
        }
        labels
    }
}

impl PartyKey {
    fn push(&self, names: [&'static str; 8], kept: impl Fn(usize) -> bool, labels: &mut Vec<Label>) {
        let unknown = || metrics::SharedString::const_str(UNKNOWN);
        let values = self
            .values
            .iter()
            .map(|value| value.clone().map_or_else(unknown, Into::into));
        let principal = self
            .principal
            .as_ref()
            .map_or_else(unknown, |identity| identity.to_string().into());
        for (at, (name, value)) in names.into_iter().zip(values.chain([principal])).enumerate() {
            if kept(at) {
                labels.push(Label::new(name, value));
            }
        }
    }
}

/// The labels of flows beyond the bound on series.
pub(super) fn overflow() -> Vec<Label> {
    vec![Label::from_static_parts("reporter", "overflow")]
}

#[cfg(test)]
mod tests {
    use decide::model::{ExternalService, Resolution, ServiceKey, Visibility};

    use super::{super::FlowOptions, *};

    fn told(dropped: &str) -> Told {
        Told::new(&FlowOptions {
            metric_labels_dropped: Dropped::parse(dropped).unwrap(),
            ..FlowOptions::default()
        })
    }

    fn flow(identity: &str) -> FlowLabels {
        FlowLabels {
            source: Party {
                identity: Some(Identity::new("cluster.local", "shop", identity).unwrap()),
                ..Party::default()
            },
            service: Some(Addressed::Service(key("web"))),
            ..FlowLabels::new(Reporter::Source)
        }
    }

    fn key(name: &str) -> ServiceKey {
        ServiceKey {
            namespace: "shop".into(),
            name: name.into(),
        }
    }

    fn names(flow: &FlowLabels, told: &Told) -> Vec<String> {
        let labels = flow.key(told).labels(told.dropped);
        labels.iter().map(|label| label.key().to_owned()).collect()
    }

    #[test]
    fn a_dropped_label_is_left_out_and_tells_no_series_apart() {
        let told = told("source_principal, destination_service,connection_security_policy");
        assert_eq!(flow("a").key(&told), flow("b").key(&told));
        let all = names(&flow("a"), &self::told(""));
        let left = names(&flow("a"), &told);
        assert_eq!(all.len(), left.len() + 3);
        assert!(!left.iter().any(|name| name == "source_principal" || name == SERVICE));
        assert!(left.iter().any(|name| name == SERVICE_NAME));
        assert_ne!(flow("a").key(&self::told("")), flow("b").key(&self::told("")));
    }

    #[test]
    fn an_external_service_is_told_by_its_host_and_by_its_own_name_and_namespace() {
        let payments = ExternalService {
            key: key("payments"),
            hosts: vec!["*.payments.example".into(), "api.payments.example".into()],
            networks: Vec::new(),
            ports: Vec::new(),
            resolution: Resolution::None,
            endpoints: Arc::default(),
            visibility: Visibility::Namespace,
            waypoint: None,
            policies: Arc::default(),
            broken: None,
        };
        let outside = FlowLabels {
            service: Some(Addressed::External(Arc::new(payments))),
            ..FlowLabels::new(Reporter::Source)
        };
        let told = told("");
        let labels = outside.key(&told).labels(told.dropped);
        let value = |name: &str| labels.iter().find(|label| label.key() == name).map(Label::value);
        assert_eq!(value(SERVICE), Some("api.payments.example"));
        assert_eq!(value(SERVICE_NAME), Some("payments"));
        assert_eq!(value(SERVICE_NAMESPACE), Some("shop"));
    }

    #[test]
    fn every_label_but_the_reporter_can_be_dropped() {
        let every: Vec<_> = Dropped::all().collect();
        let told = told(&every.join(","));
        assert_eq!(names(&flow("a"), &told), ["reporter"]);
        assert_eq!(Dropped::parse(&told.dropped.to_string()), Ok(told.dropped));
        let error = Dropped::parse("reporter").unwrap_err();
        assert!(error.contains("source_workload,"), "{error}");
    }
}
