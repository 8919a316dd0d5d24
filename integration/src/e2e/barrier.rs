//! Packets that a node of ours drops on their way to pods: a NetworkPolicy's work, or an outage.

use act::process::Failure;

use super::stage::Stage;

/// Drops what matches, in nftables' words such as `tcp dport 15012`, on these nodes. The node itself still reaches its
/// pods, as with every CNI that enforces NetworkPolicies.
pub(super) async fn raise(stage: &Stage, nodes: &[&str], matches: &str) -> Result<(), Failure> {
    let mut rules = String::new();
    // Pods of one node meet on its bridge, others come through the node.
    for family in ["inet", "bridge"] {
        let table = format!("{family} e2e-barrier");
        rules += &format!("add table {table}\nadd chain {table} forward {{ type filter hook forward priority 0 ; }}\n");
        rules += &format!("add rule {table} forward {matches} drop\n");
    }
    let script = format!("printf '%s' '{rules}' | nft -f -");
    for node in nodes {
        stage.cluster.on_node(node, &["sh", "-c", &script]).await?;
    }
    Ok(())
}

/// Lets everything pass again. Nodes without a barrier are left as they are.
pub(super) async fn lower(stage: &Stage, nodes: &[&str]) -> Result<(), Failure> {
    let script = "for f in inet bridge; do ! nft list table $f e2e-barrier >/dev/null 2>&1 || nft delete table $f e2e-barrier; done";
    for node in nodes {
        stage.cluster.on_node(node, &["sh", "-c", script]).await?;
    }
    Ok(())
}
