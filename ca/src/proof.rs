//! What a token proves, and the caller that this is by the pods of a snapshot. Pure.

use std::sync::Arc;

use decide::{
    entitle::Caller,
    model::{Identity, Phase},
    snapshot::Snapshot,
};

use crate::{lookup::Sought, token::TokenError};

/// Which pods may ask for others.
#[derive(Debug, Clone)]
pub struct NodeRule {
    /// Namespace and service account of the nodes' ztunnels.
    pub account: (String, String),
    /// The ztunnel's own pod must be known; else it must fit only if it is known.
    pub require_pod: bool,
}

/// What a token proves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// It is bound to a pod.
    Pod(Bound),
    /// It is of an issuer whose subjects are mapped to identities.
    Mapped {
        /// Its subject.
        subject: Arc<str>,
        /// What that may hold.
        identities: Vec<Identity>,
    },
}

/// The pod that a token is bound to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bound {
    /// Namespace of pod and service account.
    pub namespace: Arc<str>,
    /// Service account.
    pub account: Arc<str>,
    /// The pod's name.
    pub pod: Arc<str>,
    /// The pod's UID.
    pub uid: Arc<str>,
    /// Its node, where the token tells.
    pub node: Option<Arc<str>>,
}

impl Proof {
    /// The caller, by the pods of the snapshot.
    ///
    /// # Errors
    /// [`TokenError::NotBound`], [`TokenError::Pod`].
    pub fn caller(&self, snapshot: &Snapshot, rule: &NodeRule) -> Result<Caller, TokenError> {
        match self {
            Self::Pod(bound) => bound.caller(snapshot, rule),
            Self::Mapped { subject, identities } => Ok(Caller::Mapped {
                subject: subject.clone(),
                identities: identities.clone(),
            }),
        }
    }
}

impl Bound {
    /// The pod, to be looked for.
    pub fn sought(&self) -> Sought<'_> {
        Sought::Pod {
            namespace: &self.namespace,
            name: &self.pod,
        }
    }

    fn caller(&self, snapshot: &Snapshot, rule: &NodeRule) -> Result<Caller, TokenError> {
        let uid = self.uid.clone();
        let identity = Identity::new(&snapshot.mesh.trust_domain, &self.namespace, &self.account)
            .map_err(|_| TokenError::NotBound("its service account cannot be an identity"))?;
        if (&*self.namespace, &*self.account) != (&rule.account.0, &rule.account.1) {
            return Ok(Caller::Pod { uid, identity });
        }
        let elsewhere = |why| TokenError::Pod { pod: uid.clone(), why };
        let told = || {
            let node = self.node.clone();
            node.ok_or(TokenError::NotBound("it names no node"))
        };
        let node = match snapshot.workload(&uid) {
            Some(known) if known.phase == Phase::Finished => return Err(elsewhere("has finished")),
            Some(known) if self.node.as_ref().is_some_and(|node| *node != known.node) => {
                return Err(elsewhere("runs on another node"));
            }
            Some(known) if known.identity != identity => return Err(elsewhere("has another service account")),
            Some(known) if known.node.is_empty() => return Err(elsewhere("runs on no node yet")),
            Some(known) => known.node.clone(),
            None if rule.require_pod => return Err(elsewhere("is not known here")),
            None => told()?,
        };
        Ok(Caller::Node { node, pod: uid })
    }
}
