//! An API server as a user of it sees it: objects as JSON go in, answers come out, nothing is checked on our side.

use std::time::Duration;

use act::process::Failure;
use http::{Method, Request};
use http_body_util::BodyExt;
use kube::{Client, client::Body};
use serde_json::{Value, json};
use tokio::time::Instant;

/// Longest wait for the server to do what it does in its own time.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// An API server.
pub(super) struct Server {
    client: Client,
}

/// What the server says of a request: the object, or why not.
pub(super) type Answer = Result<Value, Refused>;

/// Why not.
#[derive(Debug, Clone)]
pub(super) struct Refused {
    pub(super) code: u16,
    pub(super) message: String,
}

/// Where a kind stands: its plural name, and whether it stands in a namespace.
const KINDS: &[(&str, &str, bool)] = &[
    ("Namespace", "namespaces", false),
    ("ServiceAccount", "serviceaccounts", true),
    ("Pod", "pods", true),
    ("Service", "services", true),
    ("EndpointSlice", "endpointslices", true),
    ("NetworkPolicy", "networkpolicies", true),
    ("Gateway", "gateways", true),
    ("HTTPRoute", "httproutes", true),
    ("ReferenceGrant", "referencegrants", true),
    ("AuthorizationPolicy", "authorizationpolicies", true),
    ("PeerAuthentication", "peerauthentications", true),
    ("TrafficPolicy", "trafficpolicies", true),
    ("ExternalService", "externalservices", true),
    ("MeshConfig", "meshconfigs", false),
    ("CustomResourceDefinition", "customresourcedefinitions", false),
    ("ValidatingAdmissionPolicy", "validatingadmissionpolicies", false),
    (
        "ValidatingAdmissionPolicyBinding",
        "validatingadmissionpolicybindings",
        false,
    ),
];

impl Server {
    /// The one KUBECONFIG names.
    pub(super) async fn new() -> Result<Self, Failure> {
        let client = act::config::kubernetes::client().await;
        Ok(Self {
            client: client.map_err(|error| Failure(error.to_string()))?,
        })
    }

    /// Creates an object as it is; fields its schema does not know are the server's to drop or keep.
    pub(super) async fn create(&self, object: &Value) -> Result<Answer, Failure> {
        let path = format!("{}?fieldValidation=Ignore", collection(object)?);
        self.ask(Method::POST, &path, "application/json", object).await
    }

    /// What would become of it.
    pub(super) async fn try_create(&self, object: &Value) -> Result<Answer, Failure> {
        let path = format!("{}?fieldValidation=Ignore&dryRun=All", collection(object)?);
        self.ask(Method::POST, &path, "application/json", object).await
    }

    /// Creates an object once the server is ready for it: its kind established, its namespace's own objects there.
    pub(super) async fn create_soon(&self, object: &Value) -> Result<Value, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.create(object).await? {
                Ok(created) => return Ok(created),
                Err(refused) if Instant::now() >= end => {
                    return Err(Failure(format!(
                        "{} is not taken: {} ({object})",
                        super::objects::name(object),
                        refused.message
                    )));
                }
                Err(_) => tokio::time::sleep(LOOK).await,
            }
        }
    }

    /// Writes an object over whatever has its name.
    pub(super) async fn apply(&self, object: &Value) -> Result<Value, Failure> {
        let path = format!("{}?fieldManager=weft-source&force=true", place(object)?);
        let answer = self
            .ask(Method::PATCH, &path, "application/apply-patch+yaml", object)
            .await?;
        answer.map_err(|refused| {
            Failure(format!(
                "{} is not taken: {}",
                super::objects::name(object),
                refused.message
            ))
        })
    }

    /// Writes what an object of this kind tells of itself.
    pub(super) async fn put_status(&self, object: &Value) -> Result<Value, Failure> {
        let path = format!("{}/status", place(object)?);
        let status = json!({"status": object["status"]});
        let answer = self
            .ask(Method::PATCH, &path, "application/merge-patch+json", &status)
            .await?;
        answer.map_err(|refused| {
            Failure(format!(
                "the status of {} is not taken: {}",
                super::objects::name(object),
                refused.message
            ))
        })
    }

    /// Whether an object is there.
    pub(super) async fn has(&self, object: &Value) -> Result<bool, Failure> {
        Ok(self.get(object).await?.is_some())
    }

    /// The object of this name, if there is one.
    pub(super) async fn get(&self, object: &Value) -> Result<Option<Value>, Failure> {
        let answer = self
            .ask(Method::GET, &place(object)?, "application/json", &Value::Null)
            .await?;
        Ok(answer.ok())
    }

    /// Deletes an object, if it is there.
    pub(super) async fn delete(&self, object: &Value) -> Result<(), Failure> {
        let path = format!("{}?gracePeriodSeconds=0", place(object)?);
        let answer = self
            .ask(Method::DELETE, &path, "application/json", &Value::Null)
            .await?;
        match answer {
            Err(refused) if refused.code != 404 && refused.code != 409 => Err(Failure(format!(
                "{} cannot be deleted: {}",
                super::objects::name(object),
                refused.message
            ))),
            _ => Ok(()),
        }
    }

    /// Every object of a kind, in a namespace if the kind stands in one.
    pub(super) async fn list(&self, api_version: &str, kind: &str, namespace: &str) -> Result<Vec<Value>, Failure> {
        let of_kind = json!({"apiVersion": api_version, "kind": kind, "metadata": {"namespace": namespace}});
        let answer = self
            .ask(Method::GET, &collection(&of_kind)?, "application/json", &Value::Null)
            .await?;
        let mut list = answer.map_err(|refused| Failure(format!("{kind} cannot be listed: {}", refused.message)))?;
        let items = match list["items"].take() {
            Value::Array(items) => items,
            _ => Vec::new(),
        };
        let typed = items.into_iter().map(|mut item| {
            item["apiVersion"] = api_version.into();
            item["kind"] = kind.into();
            item
        });
        Ok(typed.collect())
    }

    async fn ask(&self, method: Method, path: &str, content: &str, body: &Value) -> Result<Answer, Failure> {
        let failed = |error: &dyn std::fmt::Display| Failure(format!("the API server does not answer: {error}"));
        let bytes = if body.is_null() {
            Vec::new()
        } else {
            body.to_string().into_bytes()
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", content);
        let request = request.body(Body::from(bytes)).map_err(|error| failed(&error))?;
        let answer = self.client.send(request).await.map_err(|error| failed(&error))?;
        let code = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|error| failed(&error))?
            .to_bytes();
        let value: Value = serde_json::from_slice(&body).unwrap_or_default();
        if code.is_success() {
            return Ok(Ok(value));
        }
        let message = value["message"].as_str().unwrap_or_default().to_owned();
        Ok(Err(Refused {
            code: code.as_u16(),
            message,
        }))
    }
}

/// Where objects of its kind are created.
fn collection(object: &Value) -> Result<String, Failure> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let known = KINDS.iter().find(|(kind, ..)| *kind == text("/kind"));
    let (_, plural, namespaced) = known.ok_or_else(|| Failure(format!("no kind {} is known here", text("/kind"))))?;
    let version = text("/apiVersion");
    let root = if version.contains('/') { "apis" } else { "api" };
    Ok(match (namespaced, text("/metadata/namespace")) {
        (true, namespace) if !namespace.is_empty() => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
        _ => format!("/{root}/{version}/{plural}"),
    })
}

/// Where an object stands.
fn place(object: &Value) -> Result<String, Failure> {
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    Ok(format!("{}/{}", collection(object)?, name.unwrap_or_default()))
}
