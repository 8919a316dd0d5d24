//! NetworkPolicy: only whom it selects. What it admits is the network's to judge, not ours.

use decide::model::Labels;
use serde::Deserialize;
use serde_json::Value;

use super::{LabelSelector, Metadata};

/// `networking.k8s.io/v1` NetworkPolicy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Its metadata; it selects pods of its own namespace.
    pub metadata: Metadata,
    /// Which pods; `None`: it cannot be read, and so counts as selecting every one.
    pub selector: Option<LabelSelector>,
}

impl NetworkPolicy {
    pub(super) fn read(metadata: Metadata, object: &Value) -> Self {
        let written = object.pointer("/spec/podSelector");
        let selector = match written {
            None | Some(Value::Null) => Some(LabelSelector::default()),
            Some(written) => LabelSelector::deserialize(written).ok(),
        };
        Self { metadata, selector }
    }

    /// Whether it selects a pod of its namespace with these labels; whatever is not understood selects.
    pub fn selects(&self, labels: &Labels) -> bool {
        let Some(selector) = &self.selector else { return true };
        let mut selector = selector.clone();
        let known = |operator: &str| matches!(operator, "In" | "NotIn" | "Exists" | "DoesNotExist");
        selector.match_expressions.retain(|it| known(&it.operator));
        selector.matches(labels)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Object;

    fn selects(selector: &Value) -> bool {
        let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": {"name": "a", "namespace": "shop"}, "spec": {"podSelector": selector}});
        let labels = Labels::from_iter([("app".into(), "web".into())]);
        match Object::parse(&policy) {
            Ok(Some(Object::NetworkPolicy(policy))) => policy.selects(&labels),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_selector_that_is_not_understood_selects() {
        let expression =
            |operator: &str| json!({"matchExpressions": [{"key": "app", "operator": operator, "values": ["db"]}]});
        for (selector, expected) in [
            (json!({}), true),
            (json!(null), true),
            (json!({"matchLabels": {"app": "web"}}), true),
            (json!({"matchLabels": {"app": "db"}}), false),
            (expression("In"), false),
            (expression("NotIn"), true),
            (expression("Near"), true),
            (json!({"matchLabels": {"app": 7}}), true),
            (json!("web"), true),
        ] {
            assert_eq!(selects(&selector), expected, "{selector}");
        }
    }
}
