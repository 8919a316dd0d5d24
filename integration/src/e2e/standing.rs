//! How a cluster stands, as far as a mesh may touch it: compared before the mesh and after it.

use std::collections::BTreeMap;

use act::process::Failure;
use serde_json::Value;

use super::{
    cluster::{Cluster, text},
    mesh::name,
};

/// Facts by name. Two clusters are alike where these are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing(BTreeMap<String, String>);

/// Cluster-wide kinds that an installation could leave behind.
pub(super) const KINDS: [&str; 9] = [
    "namespaces",
    "customresourcedefinitions",
    "clusterroles",
    "clusterrolebindings",
    "priorityclasses",
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
    "validatingwebhookconfigurations",
    "mutatingwebhookconfigurations",
];

/// What is looked at on a node: its CNI directories, our own directories, its nftables and those of every pod.
const ON_NODE: &str = r#"
cd /etc/cni/net.d && for f in $(ls -A); do echo "conf $f $(cksum < "$f")"; done
cd /opt/cni/bin && for f in $(ls -A); do echo "bin $f"; done
for d in /var/run/weft /var/lib/weft; do [ -d $d ] && ls -A $d | sed "s|^|file $d/|"; done
nft list tables | sed 's/^/nft /'
nft list ruleset | grep -i weft | sed 's/^/rule /'
for ns in $(ls /run/netns); do
  nsenter --net=/run/netns/$ns nft list tables | sed "s|^|pod $ns |"
done
true
"#;

impl Standing {
    /// How the cluster stands now. Nodes are looked at where they are ours.
    pub(super) async fn of(cluster: &Cluster, nodes: &[String]) -> Result<Self, Failure> {
        let mut facts = BTreeMap::new();
        for kind in KINDS {
            for object in cluster.list(&[kind]).await? {
                facts.insert(format!("{kind} {}", name(&object)), marks(&object));
            }
        }
        for object in cluster.list(&["nodes"]).await? {
            facts.insert(format!("nodes {}", name(&object)), marks(&object));
        }
        for object in cluster.list(&["pods", "-A"]).await? {
            let key = format!("pods {}/{}", text(&object, "/metadata/namespace"), name(&object));
            facts.insert(key, marks(&object));
        }
        if cluster.reach().is_ours() {
            for node in nodes {
                for line in cluster.on_node(node, &["sh", "-c", ON_NODE]).await?.lines() {
                    facts.insert(format!("{node}: {line}"), String::new());
                }
            }
        }
        Ok(Self(facts))
    }

    /// Objects that carry labels or annotations of ours, by name, with them.
    pub(super) fn ours(&self) -> Vec<(String, String)> {
        let marked = self.0.iter().filter(|(_, marks)| !marks.is_empty());
        let named = marked.map(|(key, marks)| (key.rsplit(' ').next().unwrap_or(key).to_owned(), marks.clone()));
        named.collect()
    }

    /// What differs, in words; nothing where they are alike.
    pub(super) fn differences(&self, after: &Self) -> Vec<String> {
        let added = after.0.iter().filter_map(|(key, value)| match self.0.get(key) {
            None => Some(format!("left behind: {key}")),
            Some(was) if was != value => Some(format!("changed: {key}: {was} became {value}")),
            Some(_) => None,
        });
        let gone = self.0.keys().filter(|key| !after.0.contains_key(*key));
        added.chain(gone.map(|key| format!("gone: {key}"))).collect()
    }
}

/// Labels and annotations of ours on an object.
fn marks(object: &Value) -> String {
    let of = |pointer: &str| {
        let all = object.pointer(pointer).and_then(Value::as_object);
        let ours = all.into_iter().flatten().filter(|(key, _)| key.contains("weft"));
        ours.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    [of("/metadata/labels"), of("/metadata/annotations")].concat().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_changed_or_gone_is_named() {
        let standing = |facts: &[(&str, &str)]| {
            Standing(
                facts
                    .iter()
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
            )
        };
        let before = standing(&[("namespaces shop", ""), ("node1: conf a 1", "")]);
        assert!(before.differences(&before).is_empty());
        let after = standing(&[
            ("namespaces shop", "weft.dev/dataplane-mode=ambient"),
            ("node1: nft inet weft", ""),
        ]);
        let told = before.differences(&after).join("\n");
        assert_eq!(
            told,
            "changed: namespaces shop:  became weft.dev/dataplane-mode=ambient\n\
             left behind: node1: nft inet weft\ngone: node1: conf a 1"
        );
    }
}
