//! AuthorizationPolicy, compiled: which pods, Services, ExternalServices or waypoints it binds, and the rules as the
//! verdict reads them. Whatever cannot be read stays as a broken part and is told (design 2 and 4).

mod pattern;
mod rule;

use std::{collections::BTreeSet, sync::Arc};

use decide::model::{Action, ConditionKey, EXTERNAL_SERVICE, ObjectRef, Policy, PortMatch, Rule};

use self::rule::Reading;
use super::{
    name::Name,
    selector::Selector,
    written::{Field, shown},
};
use crate::config::objects::{FieldError, Written};

/// One AuthorizationPolicy, read.
#[derive(Debug, PartialEq)]
pub(super) struct CompiledPolicy {
    /// For the verdict.
    pub(super) policy: Arc<Policy>,
    /// What it binds.
    pub(super) scope: Scope,
    /// Its rules that need HTTP to decide.
    pub(super) http_rules: Vec<HttpRule>,
    /// What could not be read.
    pub(super) found: Vec<FieldError>,
}

/// What a policy binds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Scope {
    /// Pods of its namespace (in the root namespace: of every one).
    Selected(Selector),
    /// These objects of its namespace.
    Targets(Vec<Target>),
}

/// One entry of `targetRefs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) kind: TargetKind,
    pub(super) name: Name,
    /// Path of the entry.
    pub(super) field: String,
}

/// What a policy may target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum TargetKind {
    Service,
    Gateway,
    ExternalService,
}

impl TargetKind {
    /// The Kubernetes kind.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Gateway => "Gateway",
            Self::ExternalService => EXTERNAL_SERVICE,
        }
    }
}

/// A rule that needs HTTP to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HttpRule {
    /// Its index.
    pub(super) index: usize,
    /// The ports it is about; `None`: every one.
    pub(super) ports: Option<BTreeSet<u16>>,
}

const FIELDS: &[&str] = &["selector", "targetRefs", "action", "rules", "dryRun", "provider"];
const REFUSES_ALL: &str = "the policy refuses everything it covers";

/// Reads a policy.
pub(super) fn compile(object: ObjectRef, written: &Written) -> CompiledPolicy {
    let spec = Field::spec(&written.spec);
    let mut found = Vec::new();
    let mut broken = None;
    for (field, meant) in spec.unknown(FIELDS) {
        broken.get_or_insert_with(|| Arc::from(field.path.as_str()));
        found.push(field.unknown_error(meant, REFUSES_ALL));
    }
    let mut note = |error: FieldError| {
        broken.get_or_insert_with(|| Arc::from(error.field.as_str()));
        found.push(error);
    };
    let action = action(&spec).unwrap_or_else(|error| {
        note(error);
        Action::Deny
    });
    let dry_run = dry_run(&spec).unwrap_or_else(|error| {
        note(error);
        false
    });
    let rule_fields = rule_fields(&spec).unwrap_or_else(|error| {
        note(error);
        Vec::new()
    });
    if action == Action::Deny && rule_fields.is_empty() && broken.is_none() {
        found.push(spec.error(
            "has no rules, so this DENY policy refuses nothing.",
            "Write what it should refuse, or remove it.",
        ));
    }
    if action == Action::Custom {
        found.push(FieldError::new(
            "spec.action",
            "is CUSTOM, and no external authorizer can be asked yet; what its rules match is refused.",
            "Use ALLOW or DENY.",
        ));
    }
    let mut reading = Reading::new(action, object.namespace.clone());
    let mut rules: Vec<Rule> = rule_fields.iter().map(|field| reading.rule(field)).collect();
    found.append(&mut reading.found);
    let scope = scope(&spec, &object, &mut found).unwrap_or_else(|error| {
        break_allowing(action, &mut rules, &error.field);
        found.push(error);
        Scope::Selected(Selector::default())
    });
    CompiledPolicy {
        http_rules: http_rules(&rules),
        policy: Arc::new(Policy {
            object,
            action,
            rules,
            dry_run,
            broken,
        }),
        scope,
        found,
    }
}

fn action(spec: &Field<'_>) -> Result<Action, FieldError> {
    let Some(field) = spec.get("action") else {
        return Ok(Action::Allow);
    };
    match field.text() {
        Some("ALLOW") => Ok(Action::Allow),
        Some("DENY") => Ok(Action::Deny),
        Some("CUSTOM") => Ok(Action::Custom),
        _ => Err(field.error(
            format!("is none of ALLOW, DENY and CUSTOM; {REFUSES_ALL}."),
            "Write ALLOW or DENY.",
        )),
    }
}

fn dry_run(spec: &Field<'_>) -> Result<bool, FieldError> {
    let Some(field) = spec.get("dryRun") else {
        return Ok(false);
    };
    field.value.as_bool().ok_or_else(|| {
        field.error(
            format!("is neither true nor false; {REFUSES_ALL}."),
            "Write true or false.",
        )
    })
}

fn rule_fields<'a>(spec: &Field<'a>) -> Result<Vec<Field<'a>>, FieldError> {
    let Some(field) = spec.get("rules") else {
        return Ok(Vec::new());
    };
    field
        .items()
        .ok_or_else(|| field.error(format!("is empty or no list; {REFUSES_ALL}."), "Write a list of rules."))
}

/// The error, if any, is that of a selector nobody can honour: the policy then selects its whole namespace.
fn scope(spec: &Field<'_>, object: &ObjectRef, found: &mut Vec<FieldError>) -> Result<Scope, FieldError> {
    const WIDENED: &str = "The policy binds its whole namespace, and if it allows, it allows nothing.";
    let widened = |error: FieldError| FieldError {
        what: format!("{} {WIDENED}", error.what),
        ..error
    };
    match (spec.get("selector"), spec.get("targetRefs")) {
        (None, None) => Ok(Scope::Selected(Selector::default())),
        (Some(selector), None) => Selector::read(&selector).map(Scope::Selected).map_err(widened),
        (None, Some(refs)) => {
            let items = refs.items().filter(|items| !items.is_empty());
            let items = items.ok_or_else(|| {
                widened(refs.error(
                    "is empty or no list.",
                    "Name a Service, an ExternalService or a Gateway, or remove it.",
                ))
            })?;
            let mut targets = Vec::new();
            for item in items {
                match target(&item, object) {
                    Ok(target) => targets.push(target),
                    Err(error) => found.push(error),
                }
            }
            Ok(Scope::Targets(targets))
        }
        (Some(selector), Some(_)) => Err(widened(
            selector.error("and targetRefs exclude each other.", "Keep one of them."),
        )),
    }
}

fn target(field: &Field<'_>, object: &ObjectRef) -> Result<Target, FieldError> {
    const WAITS: &str = "This entry binds nothing.";
    if field.fields().is_none() {
        return Err(field.error(format!("is no object. {WAITS}"), "Write kind and name."));
    }
    if let Some((unknown, meant)) = field
        .unknown(&["group", "kind", "name", "namespace"])
        .into_iter()
        .next()
    {
        return Err(unknown.unknown_error(meant, "this entry binds nothing"));
    }
    let text = |key: &str| field.get(key).and_then(|it| it.text()).unwrap_or_default();
    let kind = match (text("group"), text("kind")) {
        ("" | "core", "Service") => TargetKind::Service,
        ("gateway.networking.k8s.io", "Gateway") => TargetKind::Gateway,
        (crds::GROUP, EXTERNAL_SERVICE) => TargetKind::ExternalService,
        (_, kind) => {
            return Err(field.error(
                format!("is of a kind that no policy can target ({}). {WAITS}", shown(kind)),
                "Target a Service (group \"\"), an ExternalService (group weft.dev) or a Gateway (group \
                 gateway.networking.k8s.io).",
            ));
        }
    };
    let namespace = text("namespace");
    if !namespace.is_empty() && namespace != &*object.namespace {
        return Err(field.error(
            format!("is in another namespace. {WAITS}"),
            "Put the policy into the namespace of what it targets.",
        ));
    }
    match text("name") {
        "" => Err(field.error(format!("has no name. {WAITS}"), "Name the object.")),
        name => Ok(Target {
            kind,
            name: Name::new(&object.namespace, name),
            field: field.path.clone(),
        }),
    }
}

/// Whom an ALLOW policy was meant for is not known, so nobody may be allowed more by it; that others are not
/// allowed stays.
fn break_allowing(action: Action, rules: &mut [Rule], field: &str) {
    if action == Action::Allow {
        for rule in rules {
            rule.broken.get_or_insert_with(|| field.into());
        }
    }
}

fn http_rules(rules: &[Rule]) -> Vec<HttpRule> {
    let needs_http = |rule: &Rule| {
        let requests =
            |it: &decide::model::Source| !it.request_principals.is_empty() || !it.not_request_principals.is_empty();
        let http = |it: &decide::model::Operation| {
            [
                &it.hosts,
                &it.not_hosts,
                &it.methods,
                &it.not_methods,
                &it.paths,
                &it.not_paths,
            ]
            .iter()
            .any(|list| !list.is_empty())
        };
        rule.from.iter().any(requests)
            || rule.to.iter().any(http)
            || rule
                .when
                .iter()
                .any(|it| matches!(it.key, ConditionKey::RequestHeader(_)))
    };
    let numbered = rules.iter().enumerate();
    numbered
        .filter(|(_, rule)| needs_http(rule))
        .map(|(index, rule)| HttpRule {
            index,
            ports: ports(rule),
        })
        .collect()
}

/// The ports a rule is about, if it names them in every operation.
fn ports(rule: &Rule) -> Option<BTreeSet<u16>> {
    let mut all = BTreeSet::new();
    for operation in &rule.to {
        if operation.ports.is_empty() {
            return None;
        }
        for port in &operation.ports {
            match port {
                PortMatch::Is(port) => drop(all.insert(*port)),
                PortMatch::Broken(_) => return None,
            }
        }
    }
    (!rule.to.is_empty()).then_some(all)
}

impl HttpRule {
    /// Whether it is about one of these ports (`None`: all of them).
    pub(super) fn concerns(&self, ports: Option<&[u16]>) -> bool {
        match (&self.ports, ports) {
            (Some(own), Some(ports)) => ports.iter().any(|port| own.contains(port)),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests;
