//! Is the other end of a tunnel still there? PING by PING (RFC 9113 6.7).

use std::{sync::Arc, task::Poll};

use futures_util::future::poll_fn;
use h2::{Ping, PingPong};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::TunnelOptions;

/// PINGs for ever; returns why the tunnel is dead.
pub(super) async fn keepalive(pings: Option<PingPong>, options: &TunnelOptions) -> Arc<str> {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    let mut tick = interval_at(Instant::now() + options.ping_interval, options.ping_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match timeout(options.ping_timeout, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection's own end says it better.
            Ok(Err(_)) => return poll_fn(|_| Poll::Pending).await,
            Err(_) => return format!("the peer left a PING unanswered for {:?}", options.ping_timeout).into(),
        }
    }
}
