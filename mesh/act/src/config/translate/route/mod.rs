//! HTTPRoute, read: for which Services, by which rules, to which backends.
//!
//! Strict where the API server is lenient: a field of a rule that the mesh does not know or support makes that
//! rule answer 500, never be followed without it.

mod attach;
mod duration;
mod matches;

use std::{collections::BTreeSet, sync::Arc};

use decide::model::RouteRule;

pub(super) use self::attach::{Attached, attach};
use super::{
    name::Name,
    written::{Field, shown},
};
use crate::config::objects::{FieldError, Metadata, Written};

pub(super) const KIND: &str = "HTTPRoute";
const ANSWERS_500: &str = "requests this rule matches are answered 500";
/// Most rules, matches or backends of one list (Gateway API allows 16, 64 and 16).
const MOST: usize = 128;

/// One HTTPRoute, read.
#[derive(Debug, PartialEq)]
pub(super) struct CompiledRoute {
    pub(super) metadata: Metadata,
    pub(super) parents: Vec<Parent>,
    pub(super) rules: Vec<CompiledRule>,
    /// What could not be read.
    pub(super) found: Vec<FieldError>,
}

/// One Service the route is for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parent {
    pub(super) field: String,
    pub(super) service: Name,
    pub(super) port: Option<u16>,
    /// Name of the Service's port.
    pub(super) section: Option<Arc<str>>,
}

/// One rule, its backends not looked up yet.
#[derive(Debug, PartialEq)]
pub(super) struct CompiledRule {
    /// Without backends.
    pub(super) rule: RouteRule,
    pub(super) backends: Vec<CompiledBackend>,
}

/// One backend, not looked up yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct CompiledBackend {
    pub(super) field: String,
    pub(super) service: Name,
    pub(super) port: u16,
    pub(super) weight: u32,
    pub(super) broken: Option<Arc<str>>,
}

impl CompiledRoute {
    /// Every Service it is for or sends to.
    pub(super) fn services(&self) -> BTreeSet<Name> {
        let parents = self.parents.iter().map(|it| it.service.clone());
        let backends = self.rules.iter().flat_map(|rule| &rule.backends);
        parents.chain(backends.map(|it| it.service.clone())).collect()
    }
}

/// Reads a route.
pub(super) fn compile(written: &Written) -> CompiledRoute {
    let mut reading = Reading {
        namespace: written.metadata.namespace.clone(),
        found: Vec::new(),
    };
    let spec = Field::spec(&written.spec);
    let mut broken = None;
    for (field, meant) in spec.unknown(&["parentRefs", "hostnames", "rules"]) {
        broken.get_or_insert_with(|| Arc::from(format!("{} is not supported", field.path)));
        reading
            .found
            .push(field.unknown_error(meant, "requests this route matches are answered 500"));
    }
    let parents = reading.list(&spec, "parentRefs", &mut broken);
    let parents: Vec<Parent> = parents
        .iter()
        .filter_map(|it| reading.parent(it, &mut broken))
        .collect();
    if !parents.is_empty()
        && spec
            .some("hostnames")
            .is_some_and(|field| field.value != &serde_json::json!([]))
    {
        reading.found.push(FieldError::new(
            "spec.hostnames",
            "means nothing for a Service, whose requests are known by their address; it is not looked at.",
            "Remove it.",
        ));
    }
    let fields = reading.list(&spec, "rules", &mut broken);
    let mut rules: Vec<CompiledRule> = fields.iter().map(|it| reading.rule(it)).collect();
    if spec.some("rules").is_none() {
        // Gateway API's default: one rule, every path.
        rules.push(CompiledRule {
            rule: empty_rule(),
            backends: Vec::new(),
        });
    }
    if let Some(reason) = broken {
        for rule in &mut rules {
            rule.rule.broken.get_or_insert_with(|| reason.clone());
        }
    }
    CompiledRoute {
        metadata: written.metadata.clone(),
        parents,
        rules,
        found: reading.found,
    }
}

fn empty_rule() -> RouteRule {
    RouteRule {
        name: "".into(),
        matches: vec![matches::everything()],
        backends: Vec::new(),
        request_timeout: None,
        broken: None,
    }
}

/// Reads one route.
struct Reading {
    namespace: Arc<str>,
    found: Vec<FieldError>,
}

impl Reading {
    /// A parent that is a Service. Gateways are other people's parents.
    fn parent(&mut self, field: &Field<'_>, broken: &mut Option<Arc<str>>) -> Option<Parent> {
        let text = |key: &str| field.some(key).and_then(|it| it.text());
        if text("kind") != Some("Service") {
            return None;
        }
        if !matches!(text("group"), Some("" | "core")) {
            self.found.push(field.error(
                "is a Service, but not of the core group; the route is not attached to it.",
                "Write group: \"\".",
            ));
            return None;
        }
        let known = &["group", "kind", "namespace", "name", "sectionName", "port"];
        self.unknown(field, known, broken);
        let port = field.some("port");
        if let Some(bad) = port.as_ref().filter(|it| it.port().is_none()) {
            self.breaks(bad, broken, "is no port", "Write a number from 1 to 65535.");
        }
        let namespace = text("namespace").map_or_else(|| self.namespace.clone(), Arc::from);
        Some(Parent {
            field: field.path.clone(),
            service: Name::new(&namespace, text("name").unwrap_or_default()),
            port: port.and_then(|it| it.port()),
            section: text("sectionName").map(Arc::from),
        })
    }

    fn rule(&mut self, field: &Field<'_>) -> CompiledRule {
        let mut rule = empty_rule();
        let broken = &mut rule.broken;
        if field.fields().is_none() {
            self.breaks(field, broken, "is no object", "Write matches and backendRefs below it.");
        }
        self.unknown(
            field,
            &["name", "matches", "filters", "backendRefs", "timeouts"],
            broken,
        );
        if let Some(filters) = field
            .some("filters")
            .filter(|it| it.items().is_none_or(|it| !it.is_empty()))
        {
            self.breaks(&filters, broken, "is not supported yet", "Remove it.");
        }
        if let Some(timeouts) = field.some("timeouts") {
            rule.request_timeout = self.timeouts(&timeouts, broken);
        }
        let matches = self.list(field, "matches", broken);
        if !matches.is_empty() {
            rule.matches = matches.iter().map(|it| self.route_match(it, broken)).collect();
        }
        let backends = self.list(field, "backendRefs", broken);
        let backends = backends.iter().map(|it| self.backend(it)).collect();
        if let Some(name) = field.some("name").and_then(|it| it.text()) {
            rule.name = name.into();
        }
        CompiledRule { rule, backends }
    }

    fn timeouts(&mut self, field: &Field<'_>, broken: &mut Option<Arc<str>>) -> Option<std::time::Duration> {
        if field.fields().is_none() {
            self.breaks(field, broken, "is no object", "Write request below it.");
        }
        if let Some(unsupported) = field.some("backendRequest") {
            self.breaks(&unsupported, broken, "is not supported yet", "Use timeouts.request.");
        }
        self.unknown(field, &["request", "backendRequest"], broken);
        let request = field.some("request")?;
        match request.text().and_then(duration::parse) {
            Some(time) => (!time.is_zero()).then_some(time),
            None => {
                self.breaks(
                    &request,
                    broken,
                    "is no duration",
                    "Write one like 500ms, 10s or 1h30m.",
                );
                None
            }
        }
    }

    fn backend(&mut self, field: &Field<'_>) -> CompiledBackend {
        let mut broken = None;
        let known = &["group", "kind", "namespace", "name", "port", "weight", "filters"];
        self.unknown(field, known, &mut broken);
        let text = |key: &str| field.some(key).and_then(|it| it.text());
        let is_service = matches!(text("group").unwrap_or_default(), "" | "core")
            && matches!(text("kind").unwrap_or("Service"), "Service");
        if !is_service {
            self.breaks(field, &mut broken, "is no Service", "Send to a Service.");
        }
        if let Some(filters) = field
            .some("filters")
            .filter(|it| it.items().is_none_or(|it| !it.is_empty()))
        {
            self.breaks(&filters, &mut broken, "is not supported yet", "Remove it.");
        }
        let port = field.some("port").and_then(|it| it.port());
        if port.is_none() && is_service {
            self.breaks(
                field,
                &mut broken,
                "names no port of the Service",
                "Write port, from 1 to 65535.",
            );
        }
        let weight = field.some("weight").map(|it| (it.value.as_u64(), it));
        let weight = match weight {
            None => 1,
            Some((Some(weight @ 0..=1_000_000), _)) => u32::try_from(weight).unwrap_or(1),
            Some((_, field)) => {
                self.breaks(&field, &mut broken, "is no weight", "Write a number from 0 to 1000000.");
                1
            }
        };
        let namespace = text("namespace").map_or_else(|| self.namespace.clone(), Arc::from);
        CompiledBackend {
            field: field.path.clone(),
            service: Name::new(&namespace, text("name").unwrap_or_default()),
            port: port.unwrap_or_default(),
            weight,
            broken,
        }
    }

    /// The elements of a list, which may be absent.
    fn list<'a>(&mut self, parent: &Field<'a>, key: &str, broken: &mut Option<Arc<str>>) -> Vec<Field<'a>> {
        let Some(field) = parent.some(key) else {
            return Vec::new();
        };
        let Some(mut items) = field.items() else {
            self.breaks(&field, broken, "is no list", "Write a list.");
            return Vec::new();
        };
        if items.len() > MOST {
            self.breaks(&field, broken, "is too long a list", "Split the route.");
            items.truncate(MOST);
        }
        items
    }

    fn unknown(&mut self, field: &Field<'_>, known: &[&'static str], broken: &mut Option<Arc<str>>) {
        for (unknown, meant) in field.unknown(known) {
            broken.get_or_insert_with(|| format!("{} is not supported", unknown.path).into());
            self.found.push(unknown.unknown_error(meant, ANSWERS_500));
        }
    }

    fn breaks(&mut self, field: &Field<'_>, broken: &mut Option<Arc<str>>, what: &str, remedy: &str) {
        broken.get_or_insert_with(|| format!("{} {what}", field.path).into());
        let written = field.text().map(|text| format!("{} ", shown(text))).unwrap_or_default();
        self.found
            .push(field.error(format!("{written}{what}; {ANSWERS_500}."), remedy));
    }
}

#[cfg(test)]
mod tests;
