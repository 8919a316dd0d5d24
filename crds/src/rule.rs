//! Rules between fields: CEL for the API server, and the same rule in Rust for the directory source.

use serde_json::Value;

/// A rule that a schema cannot say by types alone.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// For an API server (`x-kubernetes-validations`).
    pub cel: &'static str,
    /// What is wrong and what to do, one sentence.
    pub message: &'static str,
    /// The same rule about the value it stands on. That value has the type its schema asks for.
    pub holds: fn(&Value) -> bool,
}

/// Every rule in use.
pub const ALL: [&Rule; 8] = [
    &SINGLETON,
    &ONE_ATTACHMENT,
    &POLICY_TARGET,
    &TRAFFIC_TARGET,
    &CONDITION_ASKS,
    &PORTS,
    &EXTERNAL_ENDPOINTS,
    &EXTERNAL_RESOLVABLE,
];

/// A MeshConfig is named `default`.
pub const SINGLETON: Rule = Rule {
    cel: "self.metadata.name == 'default'",
    message: "there is one MeshConfig and its name is 'default'",
    holds: |object| object.pointer("/metadata/name").and_then(Value::as_str) == Some("default"),
};

/// A policy binds by selector or by reference, not both.
pub const ONE_ATTACHMENT: Rule = Rule {
    cel: "!(has(self.selector) && has(self.targetRefs))",
    message: "give either selector or targetRefs, not both",
    holds: |spec| spec.get("selector").is_none() || spec.get("targetRefs").is_none(),
};

/// What an AuthorizationPolicy may be attached to.
pub const POLICY_TARGET: Rule = Rule {
    cel: "self.all(r, (r.group == '' && r.kind == 'Service') || \
          (r.group == 'weft.dev' && r.kind == 'ExternalService') || \
          (r.group == 'gateway.networking.k8s.io' && r.kind == 'Gateway'))",
    message: "an AuthorizationPolicy is attached to a Service (group ''), an ExternalService (group 'weft.dev') or a Gateway (group 'gateway.networking.k8s.io')",
    holds: |targets| {
        every(targets, |group, kind| {
            matches!(
                (group, kind),
                ("", "Service") | (crate::GROUP, "ExternalService") | (GATEWAY, "Gateway")
            )
        })
    },
};

/// What a TrafficPolicy may be attached to.
pub const TRAFFIC_TARGET: Rule = Rule {
    cel: "self.all(r, r.group == '' && r.kind == 'Service')",
    message: "a TrafficPolicy is attached to a Service (group '')",
    holds: |targets| every(targets, |group, kind| matches!((group, kind), ("", "Service"))),
};

/// A condition asks for something.
pub const CONDITION_ASKS: Rule = Rule {
    cel: "has(self.values) || has(self.notValues)",
    message: "give values or notValues, else the condition asks for nothing",
    holds: |condition| condition.get("values").is_some() || condition.get("notValues").is_some(),
};

/// The keys are ports.
pub const PORTS: Rule = Rule {
    cel: "self.all(port, 0 < int(port) && int(port) <= 65535)",
    message: "each key is a port of the pod, from 1 to 65535",
    holds: |map| {
        let is_port = |key: &String| key.parse::<i64>().is_ok_and(|port| (1..=65535).contains(&port));
        map.as_object().is_some_and(|map| map.keys().all(is_port))
    },
};

/// An ExternalService has endpoints where it says that connections go to them.
pub const EXTERNAL_ENDPOINTS: Rule = Rule {
    cel: "self.resolution == 'Static' ? has(self.endpoints) : (self.resolution == 'DNS' || !has(self.endpoints))",
    message: "resolution Static needs endpoints, and resolution None goes to no endpoint",
    holds: |spec| match resolution(spec) {
        "Static" => spec.get("endpoints").is_some(),
        "DNS" => true,
        _ => spec.get("endpoints").is_none(),
    },
};

/// An ExternalService that is resolved has a name to resolve.
pub const EXTERNAL_RESOLVABLE: Rule = Rule {
    cel: "self.resolution != 'DNS' || has(self.endpoints) || self.hosts.exists(host, !host.startsWith('*'))",
    message: "with resolution DNS a host with a wildcard cannot be resolved: give endpoints, or a host without one",
    holds: |spec| {
        let named = |host: &Value| host.as_str().is_some_and(|host| !host.starts_with('*'));
        let hosts = || spec.get("hosts").and_then(Value::as_array).into_iter().flatten();
        resolution(spec) != "DNS" || spec.get("endpoints").is_some() || hosts().any(named)
    },
};

const GATEWAY: &str = "gateway.networking.k8s.io";

impl Rule {
    /// For kube's derive.
    pub(crate) fn kube(&self) -> kube::core::Rule {
        kube::core::Rule::new(self.cel).message(self.message)
    }
}

fn resolution(spec: &Value) -> &str {
    spec.get("resolution").and_then(Value::as_str).unwrap_or("None")
}

fn every(targets: &Value, allowed: fn(&str, &str) -> bool) -> bool {
    let text = |target: &Value, field: &str| target.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    targets
        .as_array()
        .is_some_and(|targets| targets.iter().all(|it| allowed(&text(it, "group"), &text(it, "kind"))))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_rule_holds_where_its_cel_does() {
        for (rule, value, holds) in [
            (&SINGLETON, json!({"metadata": {"name": "default"}}), true),
            (&SINGLETON, json!({"metadata": {"name": "other"}}), false),
            (&ONE_ATTACHMENT, json!({}), true),
            (&ONE_ATTACHMENT, json!({"selector": {}}), true),
            (&ONE_ATTACHMENT, json!({"selector": {}, "targetRefs": []}), false),
            (&CONDITION_ASKS, json!({"key": "a", "notValues": ["b"]}), true),
            (&CONDITION_ASKS, json!({"key": "a"}), false),
            (&PORTS, json!({"1": {}, "65535": {}}), true),
            (&PORTS, json!({"0": {}}), false),
            (&PORTS, json!({"65536": {}}), false),
            (&PORTS, json!({"http": {}}), false),
            (&EXTERNAL_ENDPOINTS, json!({"resolution": "None"}), true),
            (
                &EXTERNAL_ENDPOINTS,
                json!({"resolution": "None", "endpoints": []}),
                false,
            ),
            (&EXTERNAL_ENDPOINTS, json!({"resolution": "Static"}), false),
            (
                &EXTERNAL_ENDPOINTS,
                json!({"resolution": "Static", "endpoints": []}),
                true,
            ),
            (&EXTERNAL_ENDPOINTS, json!({"resolution": "DNS"}), true),
            (
                &EXTERNAL_RESOLVABLE,
                json!({"resolution": "DNS", "hosts": ["*.a"]}),
                false,
            ),
            (
                &EXTERNAL_RESOLVABLE,
                json!({"resolution": "DNS", "hosts": ["*.a", "a"]}),
                true,
            ),
            (
                &EXTERNAL_RESOLVABLE,
                json!({"resolution": "DNS", "hosts": ["*.a"], "endpoints": []}),
                true,
            ),
            (
                &EXTERNAL_RESOLVABLE,
                json!({"resolution": "None", "hosts": ["*.a"]}),
                true,
            ),
        ] {
            assert_eq!((rule.holds)(&value), holds, "{} {value}", rule.cel);
        }
    }

    #[test]
    fn a_target_is_of_a_group_and_kind_that_its_policy_can_bind() {
        let service = json!({"group": "", "kind": "Service", "name": "a"});
        let gateway = json!({"group": GATEWAY, "kind": "Gateway", "name": "a"});
        let outside = json!({"group": "weft.dev", "kind": "ExternalService", "name": "a"});
        let foreign = json!({"group": "x.io", "kind": "Service", "name": "a"});
        let groupless = json!({"group": "", "kind": "ExternalService", "name": "a"});
        let misspelt = json!({"group": "weft.dev", "kind": "ExternalServices", "name": "a"});
        for (rule, targets, holds) in [
            (&POLICY_TARGET, json!([service, gateway, outside]), true),
            (&POLICY_TARGET, json!([service, foreign]), false),
            (&POLICY_TARGET, json!([groupless]), false),
            (&POLICY_TARGET, json!([outside, misspelt]), false),
            (&TRAFFIC_TARGET, json!([service]), true),
            (&TRAFFIC_TARGET, json!([gateway]), false),
            (&TRAFFIC_TARGET, json!([outside]), false),
        ] {
            assert_eq!((rule.holds)(&targets), holds, "{} {targets}", rule.cel);
        }
    }

    #[test]
    fn every_rule_stands_in_a_schema() {
        let all = serde_json::to_string(&crate::all()).expect("plain data");
        for rule in ALL {
            let cel = serde_json::to_string(rule.cel).expect("a string");
            assert!(all.contains(&cel), "{}", rule.cel);
        }
    }
}
