//! What goes over the wire to an API server and comes back: requests, lines of a watch, pages of a list.

use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use http_body_util::{BodyExt, Limited};
use kube::{
    Client,
    api::{ListParams, WatchParams},
    client::Body,
    core::Request,
};
use serde::Deserialize;
use serde_json::Value;

use super::{scope::Kind, trouble::Trouble};

/// Longest line of a watch: an object in etcd has at most 1.5 MiB, its JSON a few times that.
const MAX_LINE: usize = 16 << 20;
/// Largest page of a list.
const MAX_PAGE: usize = 256 << 20;
/// Objects a page.
const PAGE: u32 = 250;
/// Largest error told.
const MAX_STATUS: usize = 64 << 10;
/// Longest wait for an answer to begin.
const ANSWER: Duration = Duration::from_secs(30);
/// Longest silence within an answer. A server sends a bookmark every minute.
const SILENCE: Duration = Duration::from_secs(150);
/// How long a watch lives, in seconds: at least, and at most so much longer.
const LIFE: (u32, u32) = (200, 90);

/// The annotation of the bookmark that ends a streamed list.
const INITIAL_EVENTS_END: &str = "/metadata/annotations/k8s.io~1initial-events-end";

/// One kind at one version, and which of its objects.
#[derive(Debug)]
pub(super) struct Target {
    pub(super) kind: &'static Kind,
    pub(super) version: &'static str,
    pub(super) fields: Option<String>,
}

/// What a watch says next.
#[derive(Debug)]
pub(super) enum Line {
    /// An object is there, or there otherwise.
    Put(Value),
    /// An object is gone.
    Gone(Value),
    /// Nothing but how far the watch has come, and whether the streamed list ended.
    Bookmark { version: String, ends_list: bool },
}

/// The lines of a watch.
#[derive(Debug)]
pub(super) struct Lines {
    body: Body,
    buffer: BytesMut,
    /// How much of the buffer has no end of line in it.
    searched: usize,
}

/// One page of a list.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) objects: Vec<Value>,
    /// From which to watch, on the last page.
    pub(super) version: String,
    /// Where the next page begins, if this is not the last.
    pub(super) next: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Status {
    code: u16,
    message: String,
}

impl Target {
    /// Watches from `version` on; an empty one asks for the list first, as a stream, as it is now.
    ///
    /// # Errors
    /// What the server answered instead, or that it did not.
    pub(super) async fn watch(&self, client: &Client, version: &str) -> Result<Lines, Trouble> {
        let params = WatchParams {
            field_selector: self.fields.clone(),
            timeout: Some(LIFE.0 + fastrand::u32(..LIFE.1)),
            bookmarks: true,
            send_initial_events: version.is_empty(),
            ..WatchParams::default()
        };
        let request = self.request();
        let request = match self.kind.only_metadata {
            true => request.watch_metadata(&params, version),
            false => request.watch(&params, version),
        };
        Ok(Lines::new(ask(client, request).await?))
    }

    /// One page of the list as it is now.
    ///
    /// # Errors
    /// As [`Self::watch`].
    pub(super) async fn list(&self, client: &Client, page: Option<String>) -> Result<Page, Trouble> {
        let params = ListParams {
            field_selector: self.fields.clone(),
            limit: Some(PAGE),
            continue_token: page,
            ..ListParams::default()
        };
        let request = self.request();
        let request = match self.kind.only_metadata {
            true => request.list_metadata(&params),
            false => request.list(&params),
        };
        let body = Limited::new(ask(client, request).await?, MAX_PAGE);
        let read = tokio::time::timeout(SILENCE, body.collect()).await;
        let read = read.map_err(|_| Trouble::silence())?;
        let bytes = read
            .map_err(|error| Trouble::Unreachable(error.to_string()))?
            .to_bytes();
        self.page(&bytes)
    }

    /// Reads a page of a list.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn page(&self, bytes: &[u8]) -> Result<Page, Trouble> {
        let mut list = self.kind.shape.read(bytes).map_err(|error| Trouble::nonsense(&error))?;
        let items = match list.remove("items") {
            Some(Value::Array(items)) => items,
            Some(Value::Null) | None => Vec::new(),
            Some(_) => return Err(Trouble::Unreachable("it sent a list that is none".into())),
        };
        let of_metadata = |field: &str| list.get("metadata")?.get(field)?.as_str().map(str::to_owned);
        Ok(Page {
            objects: items
                .into_iter()
                .map(|item| self.typed(item))
                .collect::<Result<_, _>>()?,
            version: of_metadata("resourceVersion").unwrap_or_default(),
            next: of_metadata("continue").filter(|next| !next.is_empty()),
        })
    }

    /// Reads a line of a watch.
    ///
    /// # Errors
    /// The trouble the line tells, or that it is none.
    pub(super) fn line(&self, line: &[u8]) -> Result<Line, Trouble> {
        let mut event = self.kind.shape.read(line).map_err(|error| Trouble::nonsense(&error))?;
        let object = event.remove("object").unwrap_or_default();
        match event.get("type").and_then(Value::as_str).unwrap_or_default() {
            "ADDED" | "MODIFIED" => Ok(Line::Put(self.typed(object)?)),
            "DELETED" => Ok(Line::Gone(self.typed(object)?)),
            "BOOKMARK" => Ok(Line::Bookmark {
                version: resource_version(&object),
                ends_list: object.pointer(INITIAL_EVENTS_END).is_some(),
            }),
            "ERROR" => {
                let status: Status = serde_json::from_value(object).unwrap_or_default();
                Err(Trouble::of_status(status.code, status.message))
            }
            other => Err(Trouble::Unreachable(format!("it sent an event of the type {other:?}"))),
        }
    }

    /// An object with the type asked for, which items of lists and metadata do not tell.
    fn typed(&self, mut object: Value) -> Result<Value, Trouble> {
        let Some(fields) = object.as_object_mut() else {
            return Err(Trouble::Unreachable("it sent something that is no object".into()));
        };
        fields.insert("kind".into(), self.kind.kind.into());
        fields.insert("apiVersion".into(), self.api_version().into());
        Ok(object)
    }

    fn api_version(&self) -> String {
        match self.kind.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }

    fn request(&self) -> Request {
        let root = if self.kind.group.is_empty() { "api" } else { "apis" };
        Request::new(format!("/{root}/{}/{}", self.api_version(), self.kind.plural))
    }
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            searched: 0,
        }
    }

    /// The next line; `None` at the end of the watch.
    ///
    /// # Errors
    /// When the connection broke or nothing came for too long.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(Trouble::Unreachable(format!(
                    "it sent a line of more than {MAX_LINE} bytes"
                )));
            }
            let frame = tokio::time::timeout(SILENCE, self.body.frame()).await;
            match frame.map_err(|_| Trouble::silence())? {
                None => return Ok(None),
                Some(Err(error)) => return Err(Trouble::Unreachable(error.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.push(&data);
                    }
                }
            }
        }
    }

    /// Takes in what came.
    pub(super) fn push(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next line, if it came whole.
    pub(super) fn take(&mut self) -> Option<Bytes> {
        let unseen = self.buffer.get(self.searched..)?;
        let Some(end) = unseen.iter().position(|byte| *byte == b'\n') else {
            self.searched = self.buffer.len();
            return None;
        };
        let line = self.buffer.split_to(self.searched + end).freeze();
        self.buffer.advance(1);
        self.searched = 0;
        Some(line)
    }
}

/// The resource version of an object.
pub(super) fn resource_version(object: &Value) -> String {
    let version = object.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    version.unwrap_or_default().to_owned()
}

/// Sends a request; the body of the answer if it is a good one.
async fn ask(
    client: &Client,
    request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
) -> Result<Body, Trouble> {
    let request = request.map_err(|error| Trouble::Unreachable(error.to_string()))?;
    let answer = tokio::time::timeout(ANSWER, client.send(request.map(Body::from))).await;
    let answer = answer.map_err(|_| Trouble::silence())?;
    let answer = answer.map_err(|error| Trouble::Unreachable(plain(&error)))?;
    let code = answer.status();
    if code.is_success() {
        return Ok(answer.into_body());
    }
    let body = tokio::time::timeout(ANSWER, Limited::new(answer.into_body(), MAX_STATUS).collect()).await;
    let text = body
        .ok()
        .and_then(Result::ok)
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let message = match serde_json::from_slice::<Status>(&text) {
        Ok(status) => status.message,
        Err(_) => code.to_string(),
    };
    Err(Trouble::of_status(code.as_u16(), message))
}

/// The innermost reason, which is the one that says something (`Connection refused`).
fn plain(error: &kube::Error) -> String {
    let mut reason: &dyn std::error::Error = error;
    while let Some(inner) = reason.source() {
        reason = inner;
    }
    reason.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::kubernetes::scope::Scope;

    fn target(kind: &str) -> Target {
        let kinds = Scope::Ztunnel.kinds();
        let kind = kinds.iter().find(|it| it.kind == kind).expect("a kind");
        Target {
            kind,
            version: kind.versions[0],
            fields: None,
        }
    }

    fn lines(chunks: &[&str]) -> Vec<String> {
        let mut lines = Lines::new(Body::empty());
        let mut found = Vec::new();
        for chunk in chunks {
            lines.push(chunk.as_bytes());
            while let Some(line) = lines.take() {
                found.push(String::from_utf8(line.to_vec()).expect("text"));
            }
        }
        found
    }

    #[test]
    fn a_line_may_come_in_any_number_of_pieces() {
        assert_eq!(lines(&["a\nb", "c", "\n", "\nd"]), ["a", "bc", ""]);
    }

    #[test]
    fn items_of_a_list_are_given_the_type_that_was_asked_for() {
        let text = br#"{"kind":"PodList","metadata":{"resourceVersion":"9","continue":"x"},
            "items":[{"metadata":{"name":"a","namespace":"b","managedFields":[{}]},"spec":{"volumes":[]}}]}"#;
        let page = target("Pod").page(text).expect("a page");
        let expected = serde_json::json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "namespace": "b"}, "spec": {}});
        assert_eq!(
            (page.objects, page.version, page.next),
            (vec![expected], "9".into(), Some("x".into()))
        );
        let empty = target("Pod")
            .page(br#"{"metadata":{"resourceVersion":"9"},"items":null}"#)
            .expect("a page");
        assert_eq!((empty.objects.len(), empty.next), (0, None));
    }

    #[test]
    fn lines_of_a_watch_are_told_apart() {
        let target = target("Gateway");
        let object = r#"{"metadata":{"name":"a","namespace":"b","resourceVersion":"4"}}"#;
        let line = |kind: &str| target.line(format!(r#"{{"type":"{kind}","object":{object}}}"#).as_bytes());
        assert!(matches!(line("ADDED"), Ok(Line::Put(value)) if value["apiVersion"] == "gateway.networking.k8s.io/v1"));
        assert!(matches!(line("MODIFIED"), Ok(Line::Put(_))));
        assert!(matches!(line("DELETED"), Ok(Line::Gone(_))));
        assert!(matches!(line("BOOKMARK"), Ok(Line::Bookmark { ends_list: false, version }) if version == "4"));
        assert!(matches!(line("OTHER"), Err(Trouble::Unreachable(_))));
        let end = br#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"5",
            "annotations":{"k8s.io/initial-events-end":"true"}}}}"#;
        assert!(matches!(target.line(end), Ok(Line::Bookmark { ends_list: true, .. })));
        let gone = br#"{"type":"ERROR","object":{"kind":"Status","code":410,"message":"too old"}}"#;
        assert!(matches!(target.line(gone), Err(Trouble::Expired)));
        assert!(matches!(target.line(b"{"), Err(Trouble::Unreachable(_))));
    }

    #[test]
    fn a_kind_is_asked_for_where_its_group_stands() {
        for (kind, path) in [
            ("Pod", "/api/v1/pods"),
            ("EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices"),
            ("MeshConfig", "/apis/weft.dev/v1alpha1/meshconfigs"),
        ] {
            assert_eq!(target(kind).request().url_path, path);
        }
    }
}
