//! What an API server does to an object before it stores it: validation and defaults of the CRDs' own schemas,
//! names and labels, fields nobody knows (design 1 and 2).
//!
//! Stricter in one thing: a field of our own kinds that is there and empty (`from:` with nothing behind it) is a
//! fault. An API server lets it pass, and absent means *anybody* to a policy.
//!
//! What a server would fill in and only one kind has (a Service's target port, the service account of a Pod, a
//! Pod that has an address and tells neither phase nor conditions: it runs and is ready) is filled in where
//! that kind is read, [`Object::parse`].

mod metadata;
mod schema;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, LazyLock},
};

use decide::model::{ObjectRef, Place, Problem};
use serde_json::{Map, Value, json};

use self::schema::Schema;
use super::{
    document::Document,
    objects::{FieldError, FieldLines, Object, Origin},
};

/// What becomes of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct Admission {
    /// Which object. One without a kind or name goes by its place.
    pub object: ObjectRef,
    /// Where it stands.
    pub place: Place,
    /// Whether it may come in.
    pub ruling: Ruling,
}

/// Whether an object may come in.
#[derive(Debug, Clone, PartialEq)]
pub enum Ruling {
    /// As it is, with defaults; what is unknown in it is told with its origin.
    Admitted(Object, Arc<Origin>),
    /// Not: the last good version stays.
    Refused {
        /// Why not; at least one.
        problems: Box<[Problem]>,
        /// What holds where there is no good version: a policy that is not understood must not mean that there
        /// is none. Never wider than any reading of what was written.
        stand_in: Option<(Object, Arc<Origin>)>,
    },
}

/// Groups of which every kind concerns the mesh: one that is not read is a problem.
const OUR_GROUPS: [&str; 2] = [crds::GROUP, "gateway.networking.k8s.io"];
/// Kinds of these groups without effect on the mesh.
const WITHOUT_EFFECT: [&str; 1] = ["GatewayClass"];
/// Groups whose objects a user may expect to have an effect on a mesh.
const FOREIGN_GROUPS: [&str; 2] = ["security.istio.io", "networking.istio.io"];
/// Longest value shown in a problem, in characters.
const MAX_SHOWN: usize = 64;

/// Fields at the top of the objects whose schema is not ours.
const TOP: &[(&str, &[&str])] = &[
    ("Namespace", &["spec", "status"]),
    ("Node", &["spec", "status"]),
    ("Pod", &["spec", "status"]),
    ("Service", &["spec", "status"]),
    ("NetworkPolicy", &["spec", "status"]),
    ("Gateway", &["spec", "status"]),
    ("HTTPRoute", &["spec", "status"]),
    ("ReferenceGrant", &["spec"]),
    (
        "ServiceAccount",
        &["secrets", "imagePullSecrets", "automountServiceAccountToken"],
    ),
    ("EndpointSlice", &["addressType", "endpoints", "ports"]),
];

static SCHEMAS: LazyLock<Result<BTreeMap<String, Schema>, String>> = LazyLock::new(|| {
    let compile =
        |crd: k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition| {
            let schema = crd.spec.versions.into_iter().next().and_then(|version| version.schema);
            let schema = serde_json::to_value(schema.and_then(|schema| schema.open_api_v3_schema));
            let schema = Schema::compile(&schema.unwrap_or_default())?;
            Ok((crd.spec.names.kind, schema))
        };
    crds::all().into_iter().map(compile).collect()
});

/// Judges one document of a file. `None`: of a kind that does not concern the mesh.
pub fn admit(document: Document, file: &Arc<str>) -> Option<Admission> {
    let Document { value, line, lines } = document;
    let kind = Kind::of(&value);
    let unread = match kind.concern() {
        Concern::None => return None,
        Concern::Unread(error) => Some(error),
        Concern::Read => None,
    };
    let place = Place {
        file: file.clone(),
        line,
    };
    let mut hearing = Hearing {
        object: kind.name(&value, &place, unread.is_none()),
        origin: Origin {
            lines: kind.kept_lines(lines),
            place: Some(place.clone()),
            problems: Vec::new(),
        },
        faults: Vec::new(),
        unknown: Vec::new(),
    };
    let (ruling, object) = match unread {
        Some(error) => {
            hearing.faults.push(error);
            hearing.refuse(None)
        }
        None => hearing.judge(value, &kind),
    };
    Some(Admission { object, place, ruling })
}

/// Judges an object of ours that an API server has let in already, by its own schema, older or newer than this one.
pub fn judge_stored(value: Value) -> (Ruling, ObjectRef) {
    let kind = Kind::of(&value);
    let nowhere = Place {
        file: "".into(),
        line: 0,
    };
    let hearing = Hearing {
        object: kind.name(&value, &nowhere, true),
        origin: Origin::default(),
        faults: Vec::new(),
        unknown: Vec::new(),
    };
    hearing.judge(value, &kind)
}

/// What an object says of its type.
#[derive(Debug)]
struct Kind {
    kind: Option<String>,
    group: Option<String>,
    /// `apiVersion` as written.
    api_version: Option<String>,
}

/// Whether an object is the mesh's business.
#[derive(Debug)]
enum Concern {
    None,
    /// It is, or seems to be, but has no effect.
    Unread(FieldError),
    Read,
}

impl Kind {
    fn of(value: &Value) -> Self {
        let text = |field: &str| value.get(field).and_then(Value::as_str).map(str::to_owned);
        let api_version = text("apiVersion");
        let group = |version: &str| version.rsplit_once('/').map_or("", |(group, _)| group).to_owned();
        Self {
            kind: text("kind"),
            group: api_version.as_deref().map(group),
            api_version,
        }
    }

    fn is_ours(&self) -> bool {
        let ours = |kind: &str| SCHEMAS.as_ref().is_ok_and(|schemas| schemas.contains_key(kind));
        self.kind.as_deref().is_some_and(ours)
    }

    fn concern(&self) -> Concern {
        let unread = |field, what: String, remedy: String| Concern::Unread(FieldError::new(field, what, remedy));
        let written = shown(self.api_version.as_deref().unwrap_or_default());
        let Some(kind) = self.kind.as_deref() else {
            let what = "is missing.";
            return unread("kind", what.into(), "Write apiVersion and kind.".into());
        };
        let group = self.group.as_deref().unwrap_or_default();
        match Object::is_cluster_scoped(kind) {
            // Another's object that happens to be called as one of ours.
            Some(_) if !group.is_empty() && !OUR_GROUPS.contains(&group) && !self.reads_group(group) => {
                let what = format!("{written} is not a version of {kind} that is read.");
                unread(
                    "apiVersion",
                    what,
                    "Write the version this mesh reads, or remove it.".into(),
                )
            }
            Some(_) => Concern::Read,
            None if WITHOUT_EFFECT.contains(&kind) => Concern::None,
            None if OUR_GROUPS.contains(&group) => {
                let what = format!("{} of {written} is not read.", shown(kind));
                unread("kind", what, "Correct the kind, or remove it.".into())
            }
            None if FOREIGN_GROUPS.contains(&group) => {
                let what = format!("{} of {written} is not read.", shown(kind));
                unread(
                    "kind",
                    what,
                    format!("Write the same in {}, or remove it.", crds::GROUP),
                )
            }
            None => Concern::None,
        }
    }

    fn reads_group(&self, group: &str) -> bool {
        self.kind.as_deref() == Some("EndpointSlice") && group == "discovery.k8s.io"
    }

    /// Who the object is, as far as it says.
    fn name(&self, value: &Value, place: &Place, read: bool) -> ObjectRef {
        let text = |field: &str| {
            let text = value.pointer(field).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(|text| cut(text, 253))
        };
        let by_place = || format!("{}:{}", place.file, place.line).into();
        let cluster_scoped = self.kind.as_deref().and_then(Object::is_cluster_scoped);
        let namespace = match (cluster_scoped, text("/metadata/namespace")) {
            (Some(true), _) => String::new(),
            (_, Some(namespace)) => namespace,
            (Some(false), None) => "default".to_owned(),
            (None, None) => String::new(),
        };
        match (&self.kind, text("/metadata/name")) {
            // Not to be mistaken for an object of ours that has its name.
            (Some(_), _) if !read && cluster_scoped.is_some() => by_its_place(by_place()),
            (None, _) => by_its_place(by_place()),
            (Some(kind), name) => ObjectRef {
                kind: cut(kind, 63).into(),
                namespace: namespace.into(),
                name: name.map_or_else(by_place, Into::into),
            },
        }
    }

    /// Lines for every field where single fields can be at fault; of the many Pods only the outline.
    fn kept_lines(&self, lines: HashMap<String, u32>) -> FieldLines {
        let ours = self.group.as_deref().is_none_or(|group| OUR_GROUPS.contains(&group));
        let kept = |path: &str| ours || path.starts_with("metadata") || !path.contains(['.', '[']);
        lines.into_iter().filter(|(path, _)| kept(path)).collect()
    }
}

/// One object being judged.
#[derive(Debug)]
struct Hearing {
    object: ObjectRef,
    origin: Origin,
    faults: Vec<FieldError>,
    unknown: Vec<FieldError>,
}

impl Hearing {
    fn judge(mut self, mut value: Value, kind: &Kind) -> (Ruling, ObjectRef) {
        let name = kind.kind.as_deref().unwrap_or_default();
        let as_written = kind.is_ours().then(|| value.clone());
        metadata::check(&mut value, name, &mut self.faults, &mut self.unknown);
        match &*SCHEMAS {
            Err(reason) => self
                .faults
                .push(FieldError::new("", reason.clone(), "Report this as a defect.")),
            Ok(schemas) => match schemas.get(name) {
                Some(schema) => schema.admit(&mut value, &mut self.faults, &mut self.unknown),
                None => self.outline(&mut value, name),
            },
        }
        if name == "MeshConfig" {
            // A setting that is not understood could be the one that restricts.
            self.faults.append(&mut self.unknown);
        }
        match Object::parse(&value) {
            Ok(Some(object)) if self.faults.is_empty() => {
                let problems = self.unknown.iter().map(|error| self.problem(error)).collect();
                self.object = object.key();
                let origin = Origin {
                    problems,
                    ..self.origin
                };
                return (Ruling::Admitted(object, Arc::new(origin)), self.object);
            }
            Ok(_) => {}
            Err(error) if self.faults.iter().any(|fault| fault.field == error.field) => {}
            Err(error) => self.faults.push(error),
        }
        self.refuse(as_written)
    }

    /// Of a kind whose schema is not ours, only what stands at the top is known.
    fn outline(&mut self, value: &mut Value, kind: &str) {
        let Some((_, known)) = TOP.iter().find(|(name, _)| *name == kind) else {
            return;
        };
        schema::prune(value, "", &mut self.unknown, |field| {
            schema::ALWAYS.contains(&field) || known.contains(&field)
        });
    }

    fn refuse(self, as_written: Option<Value>) -> (Ruling, ObjectRef) {
        let problems: Vec<Problem> = self.faults.iter().map(|error| self.problem(error)).collect();
        let stand_in = as_written.and_then(|written| stand_in(&written, &self.object, &self.faults));
        let stand_in = stand_in.map(|object| {
            let origin = Origin {
                problems: problems.clone(),
                ..self.origin
            };
            (object, Arc::new(origin))
        });
        let problems = problems.into();
        (Ruling::Refused { problems, stand_in }, self.object)
    }

    fn problem(&self, error: &FieldError) -> Problem {
        Problem {
            object: self.object.clone(),
            field: error.field.as_str().into(),
            what: error.what.as_str().into(),
            remedy: error.remedy.as_str().into(),
            place: self.origin.place_of(&error.field),
        }
    }
}

/// What holds in place of one of our objects that is refused while no good version is known. A policy as
/// written, for the translation turns what it does not understand into parts that restrict; or, where there
/// is nothing to read, one that refuses all. Of settings those that are sound, and nothing unknown passes.
fn stand_in(written: &Value, object: &ObjectRef, faults: &[FieldError]) -> Option<Object> {
    let spec = written.get("spec").and_then(Value::as_object);
    let spec = match (&*object.kind, spec) {
        ("AuthorizationPolicy", None) => json!({"action": "DENY", "rules": [{}]}),
        ("PeerAuthentication", None) => json!({"mtls": {"mode": "STRICT"}}),
        ("AuthorizationPolicy" | "PeerAuthentication", Some(spec)) => Value::Object(spec.clone()),
        ("MeshConfig", spec) if &*object.name == "default" => sound_settings(spec, faults),
        _ => return None,
    };
    let metadata = json!({"name": &*object.name, "namespace": &*object.namespace});
    let api_version = format!("{}/{}", crds::GROUP, crds::VERSION);
    let value = json!({"apiVersion": api_version, "kind": &*object.kind, "metadata": metadata, "spec": spec});
    Object::parse(&value).ok().flatten()
}

fn sound_settings(written: Option<&Map<String, Value>>, faults: &[FieldError]) -> Value {
    let is_sound = |name: &String| {
        let path = format!("spec.{name}");
        !faults.iter().any(|fault| fault.field.starts_with(&path))
    };
    let mut spec = written.cloned().unwrap_or_default();
    spec.retain(|name, _| is_sound(name));
    spec.insert("outbound".into(), "RegistryOnly".into());
    Value::Object(spec)
}

/// A document that is no object goes by its place.
fn by_its_place(name: Arc<str>) -> ObjectRef {
    ObjectRef {
        kind: "Document".into(),
        namespace: "".into(),
        name,
    }
}

/// A text as a person wrote it, quoted and cut.
fn shown(text: &str) -> String {
    format!("{:?}", cut(text, MAX_SHOWN))
}

fn cut(text: &str, characters: usize) -> String {
    text.chars().take(characters).collect()
}

#[cfg(test)]
mod tests;
