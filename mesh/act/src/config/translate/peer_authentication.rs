//! PeerAuthentication: whether plaintext is accepted, resolved for one pod.
//!
//! Of several on one level (mesh, namespace, pod) the oldest alone counts; a level that says UNSET leaves it to
//! the level above; a port a level names overrides that level's mode. One that cannot be read is STRICT on every
//! port of what it selects.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use decide::model::{Decider, Labels, MtlsMode, MtlsRules, ObjectRef};

use super::{name::Name, selector::Selector, written::Field};
use crate::config::objects::{FieldError, Metadata, Written};

const KIND: &str = "PeerAuthentication";
const STRICT: &str = "every port of what this policy selects accepts mutual TLS only";

/// One PeerAuthentication, read.
#[derive(Debug, PartialEq)]
pub(super) struct CompiledPeers {
    object: ObjectRef,
    selector: Selector,
    /// `None`: UNSET.
    mode: Option<MtlsMode>,
    ports: BTreeMap<u16, Option<MtlsMode>>,
    /// The field that decides the mode.
    mode_field: Arc<str>,
    /// What could not be read.
    pub(super) found: Vec<FieldError>,
}

/// Every PeerAuthentication, read.
#[derive(Debug, Default)]
pub(super) struct PeerAuthentications {
    all: BTreeMap<Name, (Metadata, Arc<CompiledPeers>)>,
}

/// What binds one pod.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) mtls: MtlsRules,
    /// Policies whose selector selects the pod, each with the older one that counts in its stead, if any.
    pub(super) selecting: Vec<(Arc<CompiledPeers>, Option<ObjectRef>)>,
}

impl PeerAuthentications {
    /// Sets or removes one; whether anything changed.
    pub(super) fn set(&mut self, name: &Name, written: Option<&Written>) -> bool {
        let new = written.map(|written| (written.metadata.clone(), Arc::new(compile(name, written))));
        if self.all.get(name) == new.as_ref() {
            return false;
        }
        match new {
            Some(new) => drop(self.all.insert(name.clone(), new)),
            None => drop(self.all.remove(name)),
        }
        true
    }

    pub(super) fn get(&self, name: &Name) -> Option<&Arc<CompiledPeers>> {
        self.all.get(name).map(|(_, compiled)| compiled)
    }

    /// The one that counts for a whole namespace: the oldest of those without selector.
    pub(super) fn oldest_of_namespace(&self, namespace: &Arc<str>) -> Option<&Arc<CompiledPeers>> {
        self.oldest(namespace, CompiledPeers::is_namespace_wide)
    }

    /// Names of those in a namespace.
    pub(super) fn names_in(&self, namespace: &Arc<str>) -> BTreeSet<Name> {
        self.in_namespace(namespace).map(|(name, _)| name.clone()).collect()
    }

    /// What binds a pod with these labels.
    pub(super) fn resolve(&self, root: &Arc<str>, namespace: &Arc<str>, labels: &Labels) -> Resolved {
        let mut mtls = MtlsRules::default();
        if root != namespace {
            self.oldest_of_namespace(root)
                .into_iter()
                .for_each(|it| it.apply(&mut mtls));
        }
        self.oldest_of_namespace(namespace)
            .into_iter()
            .for_each(|it| it.apply(&mut mtls));
        let selects = |it: &CompiledPeers| !it.is_namespace_wide() && it.selector.matches(labels);
        let winner = self.oldest(namespace, selects);
        winner.into_iter().for_each(|it| it.apply(&mut mtls));
        let selecting = self
            .in_namespace(namespace)
            .map(|(_, (_, it))| it)
            .filter(|it| selects(it));
        let selecting = selecting
            .map(|it| {
                let older = winner.filter(|winner| winner.object != it.object);
                (it.clone(), older.map(|winner| winner.object.clone()))
            })
            .collect();
        Resolved { mtls, selecting }
    }

    fn oldest<'a>(
        &'a self,
        namespace: &Arc<str>,
        wanted: impl Fn(&CompiledPeers) -> bool,
    ) -> Option<&'a Arc<CompiledPeers>> {
        self.in_namespace(namespace)
            .map(|(_, it)| it)
            .filter(|(_, it)| wanted(it))
            .min_by(|(a, _), (b, _)| a.by_age(b))
            .map(|(_, it)| it)
    }

    fn in_namespace<'a>(
        &'a self,
        namespace: &Arc<str>,
    ) -> impl Iterator<Item = (&'a Name, &'a (Metadata, Arc<CompiledPeers>))> + use<'a> {
        let first = Name::new(namespace, "");
        let namespace = namespace.clone();
        self.all
            .range(first..)
            .take_while(move |(name, _)| name.namespace == namespace)
    }
}

impl CompiledPeers {
    pub(super) fn object(&self) -> &ObjectRef {
        &self.object
    }

    pub(super) fn is_namespace_wide(&self) -> bool {
        self.selector.is_empty()
    }

    fn apply(&self, rules: &mut MtlsRules) {
        let decider = |field: Arc<str>| Decider {
            object: self.object.clone(),
            field,
        };
        if let Some(mode) = self.mode {
            rules.default = (mode, Some(decider(self.mode_field.clone())));
            rules.ports.clear();
        }
        for (port, mode) in &self.ports {
            match mode {
                Some(mode) => {
                    let field = format!("spec.portLevelMtls.{port}.mode").into();
                    rules.ports.insert(*port, (*mode, decider(field)));
                }
                None => drop(rules.ports.remove(port)),
            }
        }
    }
}

fn compile(name: &Name, written: &Written) -> CompiledPeers {
    let mut compiled = CompiledPeers {
        object: name.object(KIND),
        selector: Selector::default(),
        mode: None,
        ports: BTreeMap::new(),
        mode_field: "spec.mtls.mode".into(),
        found: Vec::new(),
    };
    let spec = Field::spec(&written.spec);
    let mut found: Vec<FieldError> = spec
        .unknown(&["selector", "mtls", "portLevelMtls"])
        .into_iter()
        .map(|(field, meant)| field.unknown_error(meant, STRICT))
        .collect();
    match spec.get("selector").map(|field| Selector::read(&field)).transpose() {
        Ok(selector) => compiled.selector = selector.unwrap_or_default(),
        Err(error) => found.push(FieldError {
            what: format!("{} The policy selects its whole namespace, and {STRICT}.", error.what),
            ..error
        }),
    }
    match spec.get("mtls").map(|field| mode(&field)).transpose() {
        Ok(mode) => compiled.mode = mode.flatten(),
        Err(error) => found.push(error),
    }
    if let Some(field) = spec.get("portLevelMtls") {
        match ports(&field) {
            Ok(ports) => compiled.ports = ports,
            Err(error) => found.push(error),
        }
    }
    if let Some(first) = found.first() {
        compiled.mode = Some(MtlsMode::Strict);
        compiled.mode_field = first.field.as_str().into();
        compiled.ports.clear();
    }
    compiled.found = found;
    compiled
}

/// `{mode: …}`
fn mode(field: &Field<'_>) -> Result<Option<MtlsMode>, FieldError> {
    if field.fields().is_none() {
        return Err(field.error(format!("is empty or no object; {STRICT}."), "Write mode below it."));
    }
    if let Some((unknown, meant)) = field.unknown(&["mode"]).into_iter().next() {
        return Err(unknown.unknown_error(meant, STRICT));
    }
    let Some(mode) = field.get("mode") else {
        return Ok(None);
    };
    match mode.text() {
        Some("UNSET") => Ok(None),
        Some("PERMISSIVE") => Ok(Some(MtlsMode::Permissive)),
        Some("STRICT") => Ok(Some(MtlsMode::Strict)),
        _ => Err(mode.error(
            format!("is none of UNSET, PERMISSIVE and STRICT; {STRICT}."),
            "Write one of them.",
        )),
    }
}

fn ports(field: &Field<'_>) -> Result<BTreeMap<u16, Option<MtlsMode>>, FieldError> {
    let written = field.fields().ok_or_else(|| {
        field.error(
            format!("is empty or no object; {STRICT}."),
            "Write ports and their modes below it.",
        )
    })?;
    let mut ports = BTreeMap::new();
    for key in written.keys() {
        let Some(entry) = field.get(key) else { continue };
        let plain = key.bytes().all(|byte| byte.is_ascii_digit());
        let port = key
            .parse::<u16>()
            .ok()
            .filter(|port| plain && *port != 0)
            .ok_or_else(|| entry.error(format!("is no port; {STRICT}."), "Write a number from 1 to 65535."))?;
        ports.insert(port, mode(&entry)?);
    }
    Ok(ports)
}
