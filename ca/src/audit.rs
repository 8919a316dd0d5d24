//! One line per decision: who asked for what from where, what was decided and why. Target `audit`.

use std::net::SocketAddr;

use act::certs::Issued;
use decide::{entitle::Caller, model::Identity};

use crate::{proof::Proof, service::Refused};

/// What is known of a request when it is decided.
#[derive(Debug, Default)]
pub struct Case {
    /// Where it came from.
    pub from: Option<SocketAddr>,
    /// What the token proved.
    pub proof: Option<Proof>,
    /// Who asked, once the pods told.
    pub caller: Option<Caller>,
    /// The identity asked for, once it was understood.
    pub wanted: Option<Identity>,
}

impl Case {
    /// Writes the line and counts the decision.
    pub fn close(&self, decision: Result<&Issued, &Refused>) {
        let (decided, label, reason) = match decision {
            Ok(_) => ("issued", "entitled", String::new()),
            Err(refused) => ("refused", refused.label(), refused.to_string()),
        };
        metrics::counter!("weft_ca_decisions_total", "decision" => decided, "reason" => label).increment(1);
        let (caller, node, pod) = self.parts();
        let (serial, life) = match decision {
            Ok(issued) => (&*issued.serial, issued.validity.life()),
            Err(_) => ("", std::time::Duration::ZERO),
        };
        tracing::info!(
            target: "audit",
            decision = decided,
            caller,
            node,
            pod,
            wanted = self.wanted.as_ref().map(tracing::field::display),
            from = self.from.map(tracing::field::display),
            reason,
            serial,
            life_seconds = life.as_secs(),
            "certificate {decided}"
        );
    }

    /// Caller, node and pod in words; empty where there is none.
    fn parts(&self) -> (String, &str, &str) {
        match (&self.caller, &self.proof) {
            (None, Some(Proof::Pod(bound))) => {
                let account = format!("service account {}/{}", bound.namespace, bound.account);
                (account, bound.node.as_deref().unwrap_or_default(), &bound.uid)
            }
            (None, Some(Proof::Mapped { subject, .. })) | (Some(Caller::Mapped { subject, .. }), _) => {
                (subject.to_string(), "", "")
            }
            (None, None) => ("unknown".to_owned(), "", ""),
            (Some(Caller::Node { node, pod }), _) => ("node".to_owned(), node, pod),
            (Some(Caller::Pod { uid, identity }), _) => (identity.to_string(), "", uid),
        }
    }
}
