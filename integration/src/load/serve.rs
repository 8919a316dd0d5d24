//! A small server for tests, run in a pod as `weft-load serve`: it says who it is, takes its leave in good order, and
//! answers health checks of HTTP and gRPC. HTTP/1.1 and HTTP/2 come in on one port, answers go out.

use std::{convert::Infallible, net::IpAddr, time::Duration};

use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Frame, Incoming},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

/// How a server behaves.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeOptions {
    /// The port it listens at, on every address
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// What every answer begins with
    #[arg(long, default_value = "served")]
    pub name: String,
    /// How long new connections are still taken after SIGTERM, until nobody is sent here any more
    #[arg(long, value_parser = humantime::parse_duration, default_value = "5s")]
    pub linger: Duration,
    /// How long requests under way may then still take
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    pub grace: Duration,
    /// Starts to answer only after this time, to see a startup probe wait
    #[arg(long, value_parser = humantime::parse_duration, default_value = "0s")]
    pub delay: Duration,
}

/// `grpc.health.v1.HealthCheckResponse{status: SERVING}` as one gRPC message.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];
/// Where a slow download is.
const SLOWLY: &str = "/slowly";
const HEALTH: &str = "/grpc.health.v1.Health/Check";
/// Rest after a failed accept, so that a lack of descriptors is no busy loop.
const REST: Duration = Duration::from_millis(20);

impl ServeOptions {
    #[cfg(test)]
    pub(super) fn for_test(linger: Duration) -> Self {
        Self {
            port: 0,
            name: "served".into(),
            linger,
            grace: Duration::from_secs(1),
            delay: Duration::ZERO,
        }
    }
}

/// Serves until it is stopped, takes new connections for the time to linger, then ends what is under way in order.
pub async fn serve(listener: TcpListener, options: &ServeOptions, stop: &CancellationToken) {
    let closing = CancellationToken::new();
    let mut connections = JoinSet::new();
    let end = async {
        stop.cancelled().await;
        tokio::time::sleep(options.linger).await;
    };
    tokio::pin!(end);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut end => break,
        };
        while connections.try_join_next().is_some() {}
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(REST).await;
            continue;
        };
        connections.spawn(converse(stream, peer.ip(), options.name.clone(), closing.clone()));
    }
    drop(listener);
    closing.cancel();
    let _ = timeout(options.grace, async {
        while connections.join_next().await.is_some() {}
    })
    .await;
}

/// One connection, until its client ends it or the server closes.
async fn converse(stream: TcpStream, peer: IpAddr, name: String, closing: CancellationToken) {
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        let answer = answer(&name, peer, &request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let mut http = Builder::new(TokioExecutor::new());
    http.http1().timer(TokioTimer::new());
    let connection = http.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // How a client goes away is its own affair.
    tokio::select! {
        _ = connection.as_mut() => {}
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            let _ = connection.await;
        }
    }
}

fn answer(name: &str, peer: IpAddr, request: &Request<Incoming>) -> Response<BoxBody<Bytes, Infallible>> {
    if request.uri().path() == HEALTH {
        return healthy();
    }
    let path = request.uri().path();
    if path == SLOWLY {
        return slowly();
    }
    let text = format!("{name} {path} to {}\n", peer.to_canonical());
    Response::new(Full::new(Bytes::from(text)).boxed())
}

/// A download that takes five minutes.
fn slowly() -> Response<BoxBody<Bytes, Infallible>> {
    let pieces = futures_util::stream::unfold(0_u16, |piece| async move {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let data = Bytes::from_static(&[b'.'; 1024]);
        (piece < 15_000).then(|| (Ok(Frame::data(data)), piece + 1))
    });
    Response::new(BodyExt::boxed(StreamBody::new(pieces)))
}

/// The answer of a gRPC health check, its status in trailers.
fn healthy() -> Response<BoxBody<Bytes, Infallible>> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
    let frames = [Frame::data(Bytes::from_static(SERVING)), Frame::trailers(trailers)];
    let body = StreamBody::new(futures_util::stream::iter(frames.map(Ok)));
    let mut response = Response::new(BodyExt::boxed(body));
    let kind = http::HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
