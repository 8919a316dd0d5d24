//! What policies that can be read well enough amount to, where that is not what somebody meant: told as problems.

use std::collections::BTreeSet;

use decide::model::ObjectRef;

use super::{
    Translation,
    name::Name,
    policies,
    policy::{CompiledPolicy, Scope, Target, TargetKind},
    problem::Part,
    waypoint,
};
use crate::config::objects::FieldError;

const PEERS: &str = "PeerAuthentication";
const SELECTS_NOBODY: &str = "selects no pod, so it has no effect now.";
const CHECK_LABELS: &str = "Compare it with the labels of the pods that were meant.";

impl Translation {
    /// Tells what an AuthorizationPolicy reaches and refers to.
    pub(super) fn tell_policy(&mut self, name: &Name) {
        let Some(compiled) = self.policies.get(name).cloned() else {
            return;
        };
        let object = name.object(policies::KIND);
        let (references, reach) = match &compiled.scope {
            Scope::Selected(selector) => {
                let reach = self.tell_reach(&object, selector.is_empty());
                (Vec::new(), reach)
            }
            Scope::Targets(targets) => (
                targets.iter().filter_map(|it| self.tell_target(it)).collect(),
                self.tell_unguarded_targets(&compiled, targets),
            ),
        };
        self.problems.set(object.clone(), Part::References, references);
        self.problems.set(object, Part::Reach, reach);
    }

    /// Tells what a PeerAuthentication reaches, and which older one counts in its stead.
    pub(super) fn tell_peer_authentication(&mut self, name: &Name) {
        let Some(compiled) = self.peers.get(name).cloned() else {
            return;
        };
        let object = name.object(PEERS);
        let mut found = Vec::new();
        if compiled.is_namespace_wide() {
            let oldest = self.peers.oldest_of_namespace(&name.namespace);
            if let Some(oldest) = oldest.filter(|oldest| *oldest.object() != object) {
                found.push(FieldError::new(
                    "",
                    format!(
                        "{} is older and counts for the namespace, so this one has no effect.",
                        oldest.object()
                    ),
                    "Keep one of them.",
                ));
            }
        } else {
            found.extend(self.tell_reach(&object, false));
        }
        self.problems.set(object, Part::Reach, found);
    }

    fn tell_reach(&self, object: &ObjectRef, selects_all: bool) -> Vec<FieldError> {
        let Some(reached) = self.reach.of(object) else {
            let nobody = FieldError::new("spec.selector", SELECTS_NOBODY, CHECK_LABELS);
            return if selects_all { Vec::new() } else { vec![nobody] };
        };
        let mut found = Vec::new();
        if reached.in_mesh == 0 && object.namespace != self.snapshot.mesh.root_namespace {
            found.push(FieldError::new(
                if selects_all { "spec" } else { "spec.selector" },
                "selects only pods outside the mesh, where nothing enforces it.",
                "Label the namespace or the pods weft.dev/dataplane-mode: ambient.",
            ));
        }
        for (rule, pods) in &reached.unguarded {
            found.extend(
                pods.first()
                    .map(|pod| unguarded(*rule, &format!("Pod {pod}"), pods.len())),
            );
        }
        if let Some((pod, older)) = reached.shadowed.first_key_value() {
            found.push(FieldError::new(
                "spec.selector",
                format!(
                    "also selects Pod {pod}{}, for which {older} counts, because it is older.",
                    and_more(reached.shadowed.len())
                ),
                "Keep one of them, or select other pods.",
            ));
        }
        found
    }

    fn tell_target(&self, target: &Target) -> Option<FieldError> {
        let missing = |what: String| {
            let what = format!("{what}, so this entry waits for it and binds nothing.");
            Some(FieldError::new(&target.field, what, "Make it, or name another."))
        };
        let name = &target.name;
        let exists = match target.kind {
            TargetKind::Service => self.store.services.get(name).is_some(),
            TargetKind::ExternalService => self.store.externals.get(name).is_some(),
            TargetKind::Gateway => self.store.gateways.get(name).is_some(),
        };
        match target.kind {
            kind if !exists => missing(format!("{} {name} does not exist", kind.name())),
            TargetKind::Gateway if waypoint::waypoint_gateway(&self.store, name).is_none() => {
                missing(format!("Gateway {name} is no waypoint (class {})", waypoint::CLASS))
            }
            TargetKind::Service | TargetKind::ExternalService | TargetKind::Gateway => None,
        }
    }

    /// What is targeted by rules that need HTTP, and has no waypoint.
    fn tell_unguarded_targets(&self, compiled: &CompiledPolicy, targets: &[Target]) -> Vec<FieldError> {
        let is_bare = |target: &&Target| match target.kind {
            TargetKind::Service => {
                let service = self.services.get(&target.name);
                service.is_some_and(|state| state.binding.key.is_none())
            }
            TargetKind::ExternalService => self.externals.is_bare(&target.name),
            TargetKind::Gateway => false,
        };
        if compiled.http_rules.is_empty() {
            return Vec::new();
        }
        let bare: BTreeSet<(TargetKind, &Name)> = targets
            .iter()
            .filter(is_bare)
            .map(|target| (target.kind, &target.name))
            .collect();
        let Some((kind, first)) = bare.first() else {
            return Vec::new();
        };
        let rules = compiled.http_rules.iter();
        rules
            .map(|rule| unguarded(rule.index, &format!("{} {first}", kind.name()), bare.len()))
            .collect()
    }
}

fn unguarded(rule: usize, before: &str, number: usize) -> FieldError {
    FieldError::new(
        format!("spec.rules[{rule}]"),
        format!(
            "needs HTTP to decide, and no waypoint stands before {before}{}: such requests are refused.",
            and_more(number)
        ),
        "Bind a waypoint by the label weft.dev/use-waypoint, or judge by identities, addresses and ports alone.",
    )
}

fn and_more(number: usize) -> String {
    match number.saturating_sub(1) {
        0 => String::new(),
        more => format!(" and {more} more"),
    }
}
