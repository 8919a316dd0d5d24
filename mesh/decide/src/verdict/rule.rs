//! One rule against the facts: and, or, not over its lists.

use std::{borrow::Cow, net::IpAddr};

use super::{
    Client, Facts, Request,
    matches::{self, Attribute},
    tri::Tri,
};
use crate::model::{
    Action, Condition, ConditionKey, Identity, IpMatch, Operation, PortMatch, Rule, Source, StringMatch,
};

/// Whether a rule of a policy with this action matches.
pub(super) fn matches(rule: &Rule, action: Action, facts: &Facts<'_>) -> Tri {
    Matcher { action, facts }.rule(rule)
}

#[derive(Clone, Copy)]
struct Matcher<'f> {
    action: Action,
    facts: &'f Facts<'f>,
}

impl Matcher<'_> {
    fn rule(self, rule: &Rule) -> Tri {
        Tri::all([
            self.honoured(rule.broken.is_some()),
            either(&rule.from, |source| self.source(source)),
            either(&rule.to, |operation| self.operation(operation)),
            Tri::all(rule.when.iter().map(|condition| self.condition(condition))),
        ])
    }

    fn source(self, source: &Source) -> Tri {
        let address = self.address();
        Tri::all([
            self.honoured(source.broken.is_some()),
            self.peer(&source.principals, &source.not_principals, principal),
            self.peer(&source.namespaces, &source.not_namespaces, namespace),
            self.peer(&source.service_accounts, &source.not_service_accounts, service_account),
            self.peer(&source.trust_domains, &source.not_trust_domains, trust_domain),
            // No JSON web token is read yet, so who a request's principal is cannot be said.
            self.honoured(!source.request_principals.is_empty() || !source.not_request_principals.is_empty()),
            self.networks(&source.ip_blocks, &source.not_ip_blocks, address),
            // No proxy in front of the mesh is trusted to name a remote address, so it is the client's own.
            self.networks(&source.remote_ip_blocks, &source.not_remote_ip_blocks, address),
        ])
    }

    fn operation(self, operation: &Operation) -> Tri {
        let method = self.request(|request| request.method);
        let path = self.request(|request| request.path);
        let host = self.request(|request| request.host);
        Tri::all([
            self.honoured(operation.broken.is_some()),
            self.ports(&operation.ports, &operation.not_ports),
            self.list(&operation.hosts, &operation.not_hosts, matches::broken, |pattern, _| {
                host.tri(|host| matches::host(pattern, host))
            }),
            self.strings(&operation.methods, &operation.not_methods, &method),
            self.list(
                &operation.paths,
                &operation.not_paths,
                matches::broken_path,
                |pattern, _| path.tri(|path| matches::path(pattern, path)),
            ),
        ])
    }

    fn condition(self, condition: &Condition) -> Tri {
        let Condition {
            key,
            values,
            not_values,
            networks,
            not_networks,
        } = condition;
        let of_peer = |part: fn(&Identity) -> Cow<'_, str>| self.peer(values, not_values, part);
        let in_networks = |address| self.networks(networks, not_networks, address);
        match key {
            // A condition that asks for nothing was meant to ask for something.
            _ if [values.len(), not_values.len(), networks.len(), not_networks.len()] == [0; 4] => self.honoured(true),
            ConditionKey::SourceIp | ConditionKey::RemoteIp => in_networks(self.address()),
            ConditionKey::DestinationIp => in_networks(Attribute::Is(self.facts.destination.ip().to_canonical())),
            ConditionKey::DestinationPort => {
                let port = self.facts.destination.port().to_string();
                self.strings(values, not_values, &Attribute::Is(port.into()))
            }
            ConditionKey::SourceNamespace => of_peer(namespace),
            ConditionKey::SourcePrincipal => of_peer(principal),
            ConditionKey::SourceServiceAccount => of_peer(service_account),
            ConditionKey::RequestHeader(name) => self.header(name, values, not_values),
            ConditionKey::Unsupported(_) => self.honoured(true),
        }
    }

    /// A header that stands there several times is one value joined by commas (RFC 9110 5.3); servers
    /// differ in which of them they read. So where a match refuses, any single one of them suffices too.
    fn header(self, name: &str, values: &[StringMatch], not_values: &[StringMatch]) -> Tri {
        if name.eq_ignore_ascii_case("host") {
            let host = self.request(|request| request.host);
            return self.list(values, not_values, matches::broken, |pattern, _| {
                host.tri(|host| matches::host(pattern, host))
            });
        }
        let Ok(name) = http::HeaderName::from_bytes(name.as_bytes()) else {
            return self.honoured(true);
        };
        let Some(request) = self.facts.request else {
            return self.list(values, not_values, matches::broken, |_, _| Tri::Unknown);
        };
        let present: Vec<Cow<'_, str>> = request
            .headers
            .get_all(name)
            .iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()))
            .collect();
        let joined = present.join(",");
        self.list(values, not_values, matches::broken, |pattern, refuses| {
            let together = !present.is_empty() && matches::string(pattern, &joined);
            let alone = refuses && present.iter().any(|value| matches::string(pattern, value));
            Tri::from(together || alone)
        })
    }

    /// What a part amounts to that cannot be honoured; true for one that can.
    fn honoured(self, broken: bool) -> Tri {
        Tri::from(!broken || self.refuses())
    }

    fn refuses(self) -> bool {
        self.action != Action::Allow
    }

    /// One of `wanted` (if any), and none of `unwanted`. `matches` is told whether a match leads to refusal.
    fn list<P>(self, wanted: &[P], unwanted: &[P], broken: fn(&P) -> bool, matches: impl Fn(&P, bool) -> Tri) -> Tri {
        let refuses = self.refuses();
        let good = |pattern: &&P| !broken(pattern);
        let positive = if wanted.is_empty() || (refuses && wanted.iter().any(broken)) {
            Tri::True
        } else {
            Tri::any(wanted.iter().filter(good).map(|pattern| matches(pattern, refuses)))
        };
        let negative = if unwanted.iter().any(broken) {
            self.honoured(true)
        } else {
            !Tri::any(unwanted.iter().map(|pattern| matches(pattern, !refuses)))
        };
        Tri::all([positive, negative])
    }

    fn strings(self, wanted: &[StringMatch], unwanted: &[StringMatch], value: &Attribute<Cow<'_, str>>) -> Tri {
        self.list(wanted, unwanted, matches::broken, |pattern, _| {
            value.tri(|value| matches::string(pattern, value))
        })
    }

    fn networks(self, wanted: &[IpMatch], unwanted: &[IpMatch], address: Attribute<IpAddr>) -> Tri {
        let broken = |network: &IpMatch| matches!(network, IpMatch::Broken(_));
        self.list(wanted, unwanted, broken, |network, _| {
            address.tri(|address| matches!(network, IpMatch::In(network) if network.contains(address)))
        })
    }

    fn ports(self, wanted: &[PortMatch], unwanted: &[PortMatch]) -> Tri {
        let broken = |port: &PortMatch| matches!(port, PortMatch::Broken(_));
        self.list(wanted, unwanted, broken, |port, _| {
            Tri::from(*port == PortMatch::Is(self.facts.destination.port()))
        })
    }

    /// The lists about one part of the client's identity.
    fn peer(self, wanted: &[StringMatch], unwanted: &[StringMatch], part: fn(&Identity) -> Cow<'_, str>) -> Tri {
        if wanted.is_empty() && unwanted.is_empty() {
            return Tri::True;
        }
        let value = match self.facts.client {
            Client::Known { peer: Some(peer), .. } => Attribute::Is(part(peer)),
            Client::Known { peer: None, .. } => Attribute::Absent,
            Client::BehindWaypoint => Attribute::Unknown,
        };
        self.strings(wanted, unwanted, &value)
    }

    fn address(self) -> Attribute<IpAddr> {
        match self.facts.client {
            Client::Known { address, .. } => Attribute::Is(address.to_canonical()),
            Client::BehindWaypoint => Attribute::Unknown,
        }
    }

    fn request<'s>(&'s self, part: fn(&Request<'s>) -> &'s str) -> Attribute<Cow<'s, str>> {
        match &self.facts.request {
            Some(request) => Attribute::Is(part(request).into()),
            None => Attribute::Unknown,
        }
    }
}

/// Any of the alternatives; true if none is written.
fn either<T>(alternatives: &[T], matches: impl Fn(&T) -> Tri) -> Tri {
    if alternatives.is_empty() {
        Tri::True
    } else {
        Tri::any(alternatives.iter().map(matches))
    }
}

fn principal(identity: &Identity) -> Cow<'_, str> {
    identity.principal().into()
}

fn namespace(identity: &Identity) -> Cow<'_, str> {
    identity.namespace().into()
}

fn trust_domain(identity: &Identity) -> Cow<'_, str> {
    identity.trust_domain().into()
}

fn service_account(identity: &Identity) -> Cow<'_, str> {
    format!("{}/{}", identity.namespace(), identity.service_account()).into()
}
