//! One rule: `from`, `to`, `when`.

use std::sync::Arc;

use decide::model::{Action, Condition, ConditionKey, IpMatch, Operation, PortMatch, Rule, Source, StringMatch};

use super::{
    super::written::{Field, shown},
    pattern::{self, Fault},
};
use crate::config::objects::FieldError;

const SOURCE: &[&str] = &[
    "principals",
    "notPrincipals",
    "requestPrincipals",
    "notRequestPrincipals",
    "namespaces",
    "notNamespaces",
    "serviceAccounts",
    "notServiceAccounts",
    "trustDomains",
    "notTrustDomains",
    "ipBlocks",
    "notIpBlocks",
    "remoteIpBlocks",
    "notRemoteIpBlocks",
];

const OPERATION: &[&str] = &[
    "hosts",
    "notHosts",
    "ports",
    "notPorts",
    "methods",
    "notMethods",
    "paths",
    "notPaths",
];

/// Reads the rules of one policy.
pub(super) struct Reading {
    action: Action,
    namespace: Arc<str>,
    pub(super) found: Vec<FieldError>,
}

impl Reading {
    pub(super) fn new(action: Action, namespace: Arc<str>) -> Self {
        Self {
            action,
            namespace,
            found: Vec::new(),
        }
    }

    pub(super) fn rule(&mut self, field: &Field<'_>) -> Rule {
        let mut rule = Rule::default();
        if field.fields().is_none() {
            rule.broken = Some(self.broken(field, "is no object.", "Write from, to or when below it."));
            return rule;
        }
        rule.broken = self.unknown(field, &["from", "to", "when"]);
        rule.from = self.entries(field, "from", &mut rule.broken, Self::from);
        rule.to = self.entries(field, "to", &mut rule.broken, Self::to);
        rule.when = self.entries(field, "when", &mut rule.broken, Self::condition);
        rule
    }

    fn from(&mut self, field: &Field<'_>) -> Source {
        let (source, broken) = self.only(field, "source", SOURCE);
        let Some(it) = source else {
            return Source {
                broken,
                ..Source::default()
            };
        };
        for key in ["requestPrincipals", "notRequestPrincipals"] {
            if let Some(field) = it.get(key) {
                self.broken(&field, "asks for a JSON web token, and none is read yet.", "Remove it.");
            }
        }
        Source {
            principals: self.list(&it, "principals", |_, text| pattern::principal(text)),
            not_principals: self.list(&it, "notPrincipals", |_, text| pattern::principal(text)),
            request_principals: self.list(&it, "requestPrincipals", |_, text| pattern::wildcard(text)),
            not_request_principals: self.list(&it, "notRequestPrincipals", |_, text| pattern::wildcard(text)),
            namespaces: self.list(&it, "namespaces", |_, text| pattern::wildcard(text)),
            not_namespaces: self.list(&it, "notNamespaces", |_, text| pattern::wildcard(text)),
            service_accounts: self.list(&it, "serviceAccounts", Self::service_account),
            not_service_accounts: self.list(&it, "notServiceAccounts", Self::service_account),
            trust_domains: self.list(&it, "trustDomains", |_, text| pattern::wildcard(text)),
            not_trust_domains: self.list(&it, "notTrustDomains", |_, text| pattern::wildcard(text)),
            ip_blocks: self.list(&it, "ipBlocks", |_, text| pattern::network(text)),
            not_ip_blocks: self.list(&it, "notIpBlocks", |_, text| pattern::network(text)),
            remote_ip_blocks: self.list(&it, "remoteIpBlocks", |_, text| pattern::network(text)),
            not_remote_ip_blocks: self.list(&it, "notRemoteIpBlocks", |_, text| pattern::network(text)),
            broken,
        }
    }

    fn to(&mut self, field: &Field<'_>) -> Operation {
        let (operation, broken) = self.only(field, "operation", OPERATION);
        let Some(it) = operation else {
            return Operation {
                broken,
                ..Operation::default()
            };
        };
        Operation {
            hosts: self.list(&it, "hosts", |_, text| pattern::host(text)),
            not_hosts: self.list(&it, "notHosts", |_, text| pattern::host(text)),
            ports: self.list(&it, "ports", |_, text| pattern::port(text)),
            not_ports: self.list(&it, "notPorts", |_, text| pattern::port(text)),
            methods: self.list(&it, "methods", |_, text| pattern::method(text)),
            not_methods: self.list(&it, "notMethods", |_, text| pattern::method(text)),
            paths: self.list(&it, "paths", |_, text| pattern::path(text)),
            not_paths: self.list(&it, "notPaths", |_, text| pattern::path(text)),
            broken,
        }
    }

    fn condition(&mut self, field: &Field<'_>) -> Condition {
        let mut condition = Condition {
            key: ConditionKey::Unsupported(field.path.as_str().into()),
            values: Vec::new(),
            not_values: Vec::new(),
            networks: Vec::new(),
            not_networks: Vec::new(),
        };
        if field.fields().is_none() {
            self.broken(field, "is no object.", "Write key and values below it.");
            return condition;
        }
        if self.unknown(field, &["key", "values", "notValues"]).is_some() {
            return condition;
        }
        if field.get("values").is_none() && field.get("notValues").is_none() {
            self.broken(field, "asks for no value.", "Write values or notValues.");
            return condition;
        }
        condition.key = match field.get("key").and_then(|key| key.text()) {
            Some(key) => self.key(field, key),
            None => {
                self.broken(field, "has no key.", "Write which attribute it is about.");
                return condition;
            }
        };
        if matches!(
            condition.key,
            ConditionKey::SourceIp | ConditionKey::RemoteIp | ConditionKey::DestinationIp
        ) {
            condition.networks = self.list(field, "values", |_, text| pattern::network(text));
            condition.not_networks = self.list(field, "notValues", |_, text| pattern::network(text));
        } else {
            let key = condition.key.clone();
            let value = |reading: &Self, text: &str| match key {
                ConditionKey::SourcePrincipal => pattern::principal(text),
                ConditionKey::SourceServiceAccount => reading.service_account(text),
                ConditionKey::DestinationPort => pattern::port(text).map(|_| StringMatch::Exact(text.into())),
                _ => pattern::wildcard(text),
            };
            condition.values = self.list(field, "values", value);
            condition.not_values = self.list(field, "notValues", value);
        }
        condition
    }

    fn key(&mut self, condition: &Field<'_>, key: &str) -> ConditionKey {
        let header = key
            .strip_prefix("request.headers[")
            .and_then(|rest| rest.strip_suffix(']'))
            .filter(|name| http::HeaderName::from_bytes(name.as_bytes()).is_ok());
        match (key, header) {
            (_, Some(name)) => ConditionKey::RequestHeader(name.to_ascii_lowercase().into()),
            ("source.ip", _) => ConditionKey::SourceIp,
            ("remote.ip", _) => ConditionKey::RemoteIp,
            ("source.namespace", _) => ConditionKey::SourceNamespace,
            ("source.principal", _) => ConditionKey::SourcePrincipal,
            ("source.serviceAccount", _) => ConditionKey::SourceServiceAccount,
            ("destination.ip", _) => ConditionKey::DestinationIp,
            ("destination.port", _) => ConditionKey::DestinationPort,
            _ => {
                let field = condition.get("key").unwrap_or_else(|| condition.clone());
                self.broken(
                    &field,
                    &format!("{} is no attribute the mesh can judge.", shown(key)),
                    "Use source.ip, remote.ip, source.namespace, source.principal, source.serviceAccount, \
                     destination.ip, destination.port or request.headers[NAME].",
                );
                ConditionKey::Unsupported(key.chars().take(100).collect::<String>().into())
            }
        }
    }

    fn service_account(&self, text: &str) -> Result<StringMatch, Fault> {
        pattern::service_account(text, &self.namespace)
    }

    /// The one field an entry of `from` or `to` has, and what of the entry is broken.
    fn only<'a>(
        &mut self,
        entry: &Field<'a>,
        key: &'static str,
        known: &[&'static str],
    ) -> (Option<Field<'a>>, Option<Arc<str>>) {
        let mut broken = self.unknown(entry, &[key]);
        let Some(inner) = entry.get(key) else {
            if broken.is_none() {
                broken = Some(self.broken(entry, &format!("has no {key}."), &format!("Write {key} below it.")));
            }
            return (None, broken);
        };
        if inner.fields().is_none_or(serde_json::Map::is_empty) {
            let path = self.broken(
                &inner,
                "is empty or no object.",
                "Write what it should match, or remove it.",
            );
            return (None, broken.or(Some(path)));
        }
        let unknown = self.unknown(&inner, known);
        (Some(inner), broken.or(unknown))
    }

    fn entries<T>(
        &mut self,
        rule: &Field<'_>,
        key: &str,
        broken: &mut Option<Arc<str>>,
        each: fn(&mut Self, &Field<'_>) -> T,
    ) -> Vec<T> {
        let Some(field) = rule.get(key) else {
            return Vec::new();
        };
        match field.items().filter(|items| !items.is_empty()) {
            Some(items) => items.iter().map(|item| each(self, item)).collect(),
            None => {
                let path = self.broken(
                    &field,
                    "is empty or no list.",
                    "Write at least one entry, or remove it.",
                );
                broken.get_or_insert(path);
                Vec::new()
            }
        }
    }

    /// A list of patterns. One that is there but empty was meant to hold something.
    fn list<T: Pattern>(
        &mut self,
        parent: &Field<'_>,
        key: &str,
        read: impl Fn(&Self, &str) -> Result<T, Fault>,
    ) -> Vec<T> {
        let Some(field) = parent.get(key) else {
            return Vec::new();
        };
        let Some(items) = field.items().filter(|items| !items.is_empty()) else {
            let path = self.broken(
                &field,
                "is empty or no list.",
                "Write at least one value, or remove it.",
            );
            return vec![T::broken(path)];
        };
        let mut patterns = Vec::with_capacity(items.len());
        for item in items {
            let text = match item.value {
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Number(number) => number.to_string(),
                _ => String::new(),
            };
            patterns.push(read(self, &text).unwrap_or_else(|fault| {
                self.broken(&item, &format!("{} {}", shown(&text), fault.what), &fault.remedy);
                T::broken(text.chars().take(100).collect::<String>().into())
            }));
        }
        patterns
    }

    fn unknown(&mut self, field: &Field<'_>, known: &[&'static str]) -> Option<Arc<str>> {
        let mut first = None;
        for (unknown, meant) in field.unknown(known) {
            first.get_or_insert_with(|| Arc::from(unknown.path.as_str()));
            self.found.push(unknown.unknown_error(meant, self.consequence()));
        }
        first
    }

    fn broken(&mut self, field: &Field<'_>, what: &str, remedy: &str) -> Arc<str> {
        let what = format!("{what} So {}.", self.consequence());
        self.found.push(field.error(what, remedy));
        field.path.as_str().into()
    }

    fn consequence(&self) -> &'static str {
        match self.action {
            Action::Allow => "this part of the rule never matches and allows nothing",
            Action::Deny | Action::Custom => "this part of the rule always matches and refuses",
        }
    }
}

/// A pattern that may be broken.
trait Pattern {
    fn broken(text: Arc<str>) -> Self;
}

impl Pattern for StringMatch {
    fn broken(text: Arc<str>) -> Self {
        Self::Broken(text)
    }
}

impl Pattern for IpMatch {
    fn broken(text: Arc<str>) -> Self {
        Self::Broken(text)
    }
}

impl Pattern for PortMatch {
    fn broken(text: Arc<str>) -> Self {
        Self::Broken(text)
    }
}
