//! HTTP on a client's stream: one connection, its bounds and its timers.

use std::{convert::Infallible, future::Future, pin::Pin, pin::pin, sync::Arc};

use act::hbone::StreamIo;
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use crate::{
    activity::Watched,
    bounds::FLYING,
    client::Client,
    detect::Protocol,
    exchange::{exchange, unread},
};

/// Serves a client's HTTP until it ends, is idle for too long, or drains.
pub(crate) async fn serve(client: Arc<Client>, protocol: Protocol, io: Watched<StreamIo>) {
    let settings = &client.waypoint.settings;
    let service = {
        let client = client.clone();
        let most = (protocol == Protocol::Http2).then_some(settings.max_streams);
        service_fn(move |request: Request<Incoming>| {
            let client = client.clone();
            // It knows the bound from our SETTINGS, and keeps further requests back until one of these ends.
            if most.is_some_and(|most| client.activity.in_flight() + 1 == most) {
                FLYING.hit(1);
            }
            async move { Ok::<_, Infallible>(exchange(client, request).await) }
        })
    };
    let io = TokioIo::new(io);
    if protocol == Protocol::Http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(settings.tunnel.stream_window)
            .initial_connection_window_size(settings.tunnel.tunnel_window)
            .max_concurrent_streams(settings.max_streams)
            // Beyond the bound it is we who refuse, with a reason; beyond this, hyper does.
            .max_header_list_size(u32::try_from(settings.max_head.saturating_mul(2)).unwrap_or(u32::MAX))
            .serve_connection(io, service);
        run(connection, http2::Connection::graceful_shutdown, &client, false).await;
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // Its clock would run between requests too, and cut a connection just as its next request arrives.
            .header_read_timeout(None)
            .max_headers(settings.max_headers.saturating_mul(2))
            .max_buf_size(settings.max_head.saturating_mul(2))
            .auto_date_header(true)
            .serve_connection(io, service)
            .with_upgrades();
        run(
            connection,
            http1::UpgradeableConnection::graceful_shutdown,
            &client,
            true,
        )
        .await;
    }
}

/// Runs a connection. `quit` has it answer what it has and take no more. With `heads`, a head that does not
/// become complete in time ends it.
async fn run<C>(connection: C, quit: impl Fn(Pin<&mut C>), client: &Client, heads: bool)
where
    C: Future<Output = hyper::Result<()>>,
{
    let settings = &client.waypoint.settings;
    let mut connection = pin!(connection);
    let mut draining = pin!(client.waypoint.draining.cancelled());
    let period = settings.head_timeout.min(settings.idle);
    let mut tick = interval_at(Instant::now() + period, period);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leaving = false;
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    if error.is_parse_too_large() {
                        unread(client);
                    }
                    tracing::debug!(%error, peer = %client.peer.identity(), "an HTTP connection of a client ended");
                }
                return;
            }
            () = &mut draining, if !leaving => {
                leaving = true;
                quit(connection.as_mut());
            }
            _ = tick.tick() => {
                let late = client.activity.incomplete_head().is_some_and(|since| since >= settings.head_timeout);
                if heads && late {
                    tracing::debug!(peer = %client.peer.identity(), "a request's head did not arrive within --head-timeout");
                    return;
                }
                if !leaving && client.activity.idle() >= settings.idle {
                    leaving = true;
                    quit(connection.as_mut());
                }
            }
        }
    }
}
