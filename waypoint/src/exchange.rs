//! One request: read the head, choose where it goes, send it, pass the response on.

use std::{
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};

use act::{
    hbone::Traceparent,
    telemetry::{FlowLabels, Reporter, RequestRecord, Security},
};
use decide::{
    hop::{Bound, bound},
    model::{Refusal, Workload},
    pick::Choice,
    snapshot::Snapshot,
    verdict::Request as Judged,
};
use http::{
    HeaderValue, Request, Response, StatusCode, Version,
    header::{CONNECTION, UPGRADE},
};
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::copy_bidirectional,
    time::{Instant, timeout_at},
};

use crate::{
    answer::{Understands, refused},
    body::{Download, Upload},
    bounds::{HEAD, HEADERS, REQUESTS},
    choose::{Asked, Choosing, Chosen},
    client::Client,
    head::{self, Forwarded, Head, strip},
    tale::Tale,
    upstream::{Unsent, Upstream},
};

/// Endpoints, or connections to one, tried for one request while no byte of it has been sent.
const MOST_TRIES: usize = 3;

/// Answers one request of a client. Told when the response has been sent.
pub(crate) async fn exchange(client: Arc<Client>, mut request: Request<Incoming>) -> Response<Download> {
    let started = Instant::now();
    let place = client.waypoint.requests.clone().try_acquire_owned();
    let crowded = place.is_err();
    let understands = Understands::of(request.version(), request.headers());
    let record = record(&client, request.method().as_str(), request.uri().path());
    let mut tale = Box::new(Tale::new(record, started, client.activity.request(), place.ok()));
    if crowded {
        let most = client.waypoint.settings.max_requests;
        return refused(REQUESTS.reached(most), tale, understands);
    }
    let on_client = hyper::upgrade::on(&mut request);
    let (parts, body) = request.into_parts();
    let forwarded = Forwarded {
        client: client.peer.identity(),
        address: client.told,
        by: &client.waypoint.identity,
    };
    let settings = &client.waypoint.settings;
    let read = if head::length(&parts) > settings.max_head {
        Err(Refusal::HeadTooLarge(HEAD.told(settings.max_head).into()))
    } else {
        Head::read(parts, settings.max_headers, forwarded)
    };
    let head = match read {
        Ok(head) => head,
        Err(refusal) => return refused(refusal, tale, understands),
    };
    if let Some(trace) = Traceparent::of(&head.headers) {
        tale.record.labels.trace = Some(trace.trace());
    }
    tale.record.path = head.path_and_query().0.into();
    tale.record.protocol = head.protocol();
    let mut attempt = Attempt {
        client: &client,
        head: &head,
        tale: &mut tale,
        started,
        deadline: None,
        routing: fastrand::u64(..),
        avoid: Vec::new(),
    };
    match attempt.send(body).await {
        Ok((response, upstream)) => {
            let deadline = attempt.deadline;
            finish(response, upstream, on_client, tale, deadline)
        }
        Err(refusal) => refused(refusal, tale, understands),
    }
}

/// One request on its way to a server.
struct Attempt<'a> {
    client: &'a Client,
    head: &'a Head,
    tale: &'a mut Tale,
    started: Instant,
    deadline: Option<Instant>,
    routing: u64,
    avoid: Vec<SocketAddr>,
}

impl Attempt<'_> {
    async fn send(&mut self, body: Incoming) -> Result<(Response<Incoming>, Upstream), Refusal> {
        let bodyless = body.is_end_stream();
        let mut body = Some(Upload::new(body, self.tale.sent.clone()));
        let mut fresh = false;
        let mut tries = 0;
        loop {
            tries += 1;
            let last = tries == MOST_TRIES;
            let (chosen, own) = self.choose().await?;
            let mut upstream = match self.connect(&chosen, &own, fresh).await {
                Ok(upstream) => upstream,
                Err(refusal) if is_elsewhere_better(&refusal) && !last => {
                    self.avoid.push(chosen.endpoint);
                    continue;
                }
                Err(refusal) => return Err(refusal),
            };
            let upload = body.take().unwrap_or_else(|| Upload::none(self.tale.sent.clone()));
            let request = self
                .head
                .request(upload, chosen.inside)
                .map_err(|error| malformed(&error))?;
            let unsent = match self.in_time(upstream.send(request)).await? {
                Ok(response) => return Ok((response, upstream)),
                Err(unsent) => unsent,
            };
            let reused = upstream.is_reused();
            fresh = true;
            match whether_again(unsent, chosen.endpoint) {
                Again::Whole(upload) if !last => body = Some(upload),
                // The server closed a connection it had kept while the request was under way to it.
                Again::Never(_) if reused && bodyless && self.head.is_idempotent() && !last => {}
                Again::Whole(_) => {
                    return Err(Refusal::ConnectFailed(
                        chosen.endpoint,
                        "it closed every connection".into(),
                    ));
                }
                Again::Never(refusal) => return Err(refusal),
            }
        }
    }

    /// Where it goes by the configuration of this moment.
    async fn choose(&mut self) -> Result<(Chosen, Arc<Workload>), Refusal> {
        let waypoint = &self.client.waypoint;
        let snapshot = waypoint.reader.load();
        let bound = bound(&snapshot, &waypoint.key, self.client.namespace(), self.client.authority)?;
        let own = waypoint.own(&snapshot)?;
        self.tale.record.labels.service = bound.addressed();
        let choosing = self.ask(&snapshot, &own, &bound)?;
        let chosen = waypoint.settle(choosing, &snapshot, &own, &self.avoid).await?;
        self.tale.goes(&chosen, &waypoint.loads);
        self.deadline = chosen.timeout.map(|timeout| self.started + timeout);
        Ok((chosen, own))
    }

    fn ask(&self, snapshot: &Snapshot, own: &Workload, bound: &Bound) -> Result<Choosing, Refusal> {
        let (path, query) = self.head.path_and_query();
        let request = Judged {
            method: self.head.method.as_str(),
            path,
            query,
            host: self.head.host.as_str(),
            headers: &self.head.headers,
        };
        let asked = Asked {
            snapshot,
            own,
            key: &self.client.waypoint.key,
            authority: self.client.authority,
            bound,
            client: self.client.peer.identity(),
            address: self.client.remote.ip(),
            request: Some(request),
        };
        let loads = &self.client.waypoint.loads;
        asked.choose(
            self.routing,
            &Choice {
                random: fastrand::u64(..),
                load: &|address| loads.of(address),
                avoid: &self.avoid,
            },
        )
    }

    async fn connect(&self, chosen: &Chosen, own: &Arc<Workload>, fresh: bool) -> Result<Upstream, Refusal> {
        let upstreams = &self.client.waypoint.upstreams;
        let to = &chosen.destination;
        if self.head.version == Version::HTTP_2 {
            self.in_time(upstreams.http2(own, to, fresh)).await?
        } else {
            let fresh = fresh || self.head.upgrade.is_some();
            self.in_time(upstreams.http1(own, to, fresh)).await?
        }
    }

    async fn in_time<T>(&self, work: impl Future<Output = T>) -> Result<T, Refusal> {
        match self.deadline {
            Some(deadline) => timeout_at(deadline, work)
                .await
                .map_err(|_| Refusal::DeadlineExceeded("the route's request timeout".into())),
            None => Ok(work.await),
        }
    }
}

/// What becomes of a request that got no response.
enum Again {
    /// None of it was sent: it may go elsewhere.
    Whole(Upload),
    /// Some of it may have arrived.
    Never(Refusal),
}

fn whether_again(mut unsent: Unsent, endpoint: SocketAddr) -> Again {
    match unsent.take_message() {
        Some(request) => Again::Whole(request.into_body()),
        None => Again::Never(Refusal::ConnectFailed(endpoint, unsent.into_error().to_string().into())),
    }
}

/// Whether another endpoint may do what this one cannot.
fn is_elsewhere_better(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::ConnectFailed(..) | Refusal::PeerNotVerified(_) | Refusal::DeadlineExceeded(_)
    ) || matches!(refusal, Refusal::RefusedByPeer(status, _) if *status >= 500)
}

/// The response as the client gets it.
fn finish(
    mut response: Response<Incoming>,
    upstream: Upstream,
    on_client: OnUpgrade,
    mut tale: Box<Tale>,
    deadline: Option<Instant>,
) -> Response<Download> {
    tale.record.status = response.status().as_u16();
    let switched = (response.status() == StatusCode::SWITCHING_PROTOCOLS).then(|| {
        (
            hyper::upgrade::on(&mut response),
            response.headers().get(UPGRADE).cloned(),
        )
    });
    let (mut parts, body) = response.into_parts();
    strip(&mut parts.headers);
    parts.version = Version::default();
    parts.extensions.clear();
    match switched {
        Some((on_server, protocol)) => {
            parts.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            if let Some(protocol) = protocol {
                parts.headers.insert(UPGRADE, protocol);
            }
            tokio::spawn(switch(on_client, on_server, tale));
            Response::from_parts(parts, Download::nothing())
        }
        None => Response::from_parts(parts, Download::server(body, tale, upstream.into_lease(), deadline)),
    }
}

/// Passes bytes both ways once client and server have switched protocols.
async fn switch(on_client: OnUpgrade, on_server: OnUpgrade, mut tale: Box<Tale>) {
    let endpoint = tale.endpoint();
    let ended = async {
        let (client, server) = (on_client.await?, on_server.await?);
        let (mut client, mut server) = (TokioIo::new(client), TokioIo::new(server));
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(copy_bidirectional(&mut client, &mut server).await?)
    };
    match ended.await {
        Ok((sent, received)) => {
            tale.sent.fetch_add(sent, Relaxed);
            tale.received += received;
        }
        Err(error) => tale.record.refusal = Some(Refusal::ConnectFailed(endpoint, error.to_string().into())),
    }
}

/// What is known of a request when its head has arrived.
fn record(client: &Client, method: &str, path: &str) -> RequestRecord {
    RequestRecord {
        labels: FlowLabels {
            source: client.source(),
            security: Security::MutualTls,
            trace: client.trace.as_ref().map(Traceparent::trace),
            ..FlowLabels::new(Reporter::Waypoint)
        },
        method: method.into(),
        path: path.into(),
        protocol: "http",
        status: 0,
        refusal: None,
        route: None,
        bytes: (0, 0),
        duration: std::time::Duration::ZERO,
    }
}

/// Tells of a request whose head was beyond what hyper reads: it has answered 431 by itself.
pub(crate) fn unread(client: &Client) {
    let settings = &client.waypoint.settings;
    let why = format!(
        "{}; and {} allows {} headers",
        HEAD.told(settings.max_head),
        HEADERS.flag(),
        settings.max_headers
    );
    let refusal = Refusal::HeadTooLarge(why.into());
    let record = RequestRecord {
        status: refusal.status(),
        refusal: Some(refusal),
        ..record(client, "", "")
    };
    record.record();
}

fn malformed(error: &http::Error) -> Refusal {
    Refusal::Malformed(error.to_string().into())
}
