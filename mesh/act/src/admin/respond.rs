//! One request, one answer.

use decide::why::{Question, why};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::CONTENT_TYPE,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Admin, dump};

/// The longest body that is read.
const BODY_LIMIT: usize = 64 * 1024;

/// Which endpoints a listener offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    Admin,
    Metrics,
    Ready,
}

impl Scope {
    /// The flag that moves this listener.
    pub(super) fn flag(self) -> &'static str {
        match self {
            Self::Admin => "--admin",
            Self::Metrics => "--metrics",
            Self::Ready => "--ready",
        }
    }
}

pub(super) async fn respond(admin: &Admin, scope: Scope, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    match (scope, request.method(), &*path) {
        (Scope::Admin | Scope::Ready, &Method::GET, "/healthz/ready") => ready(admin),
        (Scope::Admin | Scope::Ready, &Method::GET, "/healthz/live") => text(StatusCode::OK, "alive\n".into()),
        (Scope::Admin | Scope::Metrics, &Method::GET, "/metrics" | "/stats/prometheus") => {
            text(StatusCode::OK, admin.metrics.render())
        }
        (Scope::Admin, &Method::GET, "/") => text(StatusCode::OK, INDEX.into()),
        (Scope::Admin, &Method::GET, "/config_dump") => json(&dump::everything(admin)),
        (Scope::Admin, &Method::GET, "/status") => json(&dump::summary(admin)),
        (Scope::Admin, &Method::GET, "/problems") => json(&dump::problems(admin)),
        (Scope::Admin, &Method::GET, "/certs") => json(&dump::certificates(admin)),
        (Scope::Admin, &Method::GET, "/logging") => {
            json(&json!({ "level": admin.logs.as_ref().map(crate::telemetry::Logs::level) }))
        }
        (Scope::Admin, &Method::POST, "/logging") => set_level(admin, request.uri().query()),
        (Scope::Admin, &Method::POST, "/why") => explain(admin, request.into_body()).await,
        (Scope::Admin, &Method::POST, "/proof") => prove(admin, request.into_body()).await,
        _ => text(
            StatusCode::NOT_FOUND,
            format!(
                "no {} {path} here; GET / on the admin address lists what there is\n",
                request.method()
            ),
        ),
    }
}

const INDEX: &str = "\
GET  /healthz/ready   200 when ready, else 503 and what is waited for
GET  /healthz/live    200 as long as this process answers at all
GET  /metrics         Prometheus metrics
GET  /status          the same with counts where /config_dump has lists
GET  /config_dump     everything this process knows
GET  /problems        what users wrote that cannot be honoured
GET  /certs           certificates held, without keys
GET  /logging         the log level
POST /logging?level=  changes the log level
POST /why             explains one connection or request (what `weft why` asks)
POST /proof           connects from one captured pod to the ztunnel of another, and tells how it went (`weft check`)
";

fn ready(admin: &Admin) -> Response<Full<Bytes>> {
    let waits = admin.readiness.waits_for();
    if waits.is_empty() {
        text(StatusCode::OK, "ready\n".into())
    } else {
        text(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waits for {}\n", waits.join(", ")),
        )
    }
}

fn set_level(admin: &Admin, query: Option<&str>) -> Response<Full<Bytes>> {
    let Some(level) = query.and_then(|query| query.strip_prefix("level=")) else {
        return text(
            StatusCode::BAD_REQUEST,
            "give the level as /logging?level=debug\n".into(),
        );
    };
    let level = level.replace("%2C", ",").replace("%3D", "=");
    match admin.logs.as_ref().map(|logs| logs.set_level(&level)) {
        Some(Ok(())) => text(StatusCode::OK, format!("log level is now {level}\n")),
        Some(Err(why)) => text(StatusCode::BAD_REQUEST, format!("{why}\n")),
        None => text(StatusCode::NOT_FOUND, "this process does not log\n".into()),
    }
}

/// The question in a body, or a sentence for who asks so that it cannot be understood.
async fn question<Q: DeserializeOwned>(body: Incoming) -> Result<Q, String> {
    let read = Limited::new(body, BODY_LIMIT).collect().await;
    let body = read.map_err(|_| format!("the question is longer than {BODY_LIMIT} bytes or broke off\n"))?;
    serde_json::from_slice(&body.to_bytes()).map_err(|error| format!("the question cannot be understood: {error}\n"))
}

async fn prove(admin: &Admin, body: Incoming) -> Response<Full<Bytes>> {
    let way = match question(body).await {
        Ok(way) => way,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let Some(prover) = &admin.prover else {
        return text(StatusCode::NOT_FOUND, "this process serves no pods\n".into());
    };
    match prover(way).await {
        Ok(shown) => json(&shown),
        Err(sentence) => text(StatusCode::UNPROCESSABLE_ENTITY, format!("{sentence}\n")),
    }
}

async fn explain(admin: &Admin, body: Incoming) -> Response<Full<Bytes>> {
    let question: Question = match question(body).await {
        Ok(question) => question,
        Err(why) => return text(StatusCode::BAD_REQUEST, why),
    };
    let Some(reader) = &admin.reader else {
        return text(
            StatusCode::NOT_FOUND,
            "this process has no configuration to explain by\n".into(),
        );
    };
    match why(&reader.load(), &question) {
        Ok(explanation) => json(&serde_json::to_value(explanation).unwrap_or(Value::Null)),
        Err(sentence) => text(StatusCode::UNPROCESSABLE_ENTITY, format!("{sentence}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    answer(status, "text/plain; charset=utf-8", body)
}

fn json(value: &Value) -> Response<Full<Bytes>> {
    answer(StatusCode::OK, "application/json", format!("{value:#}\n"))
}

fn answer(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}
