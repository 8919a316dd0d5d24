//! Is the other end of a tunnel still there? PING by PING (RFC 9113 6.7).

use std::sync::Arc;

use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{
    TunnelOptions,
    core::{ALIVE, Shared},
};

/// PINGs for ever; returns why the tunnel is dead.
pub(super) async fn keepalive(shared: Arc<Shared>, options: TunnelOptions) -> Arc<str> {
    let mut tick = interval_at(Instant::now() + options.ping_interval, options.ping_interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        {
            let mut core = shared.lock();
            if let Err(fault) = core.endpoint.forgive() {
                core.endpoint.go_away(fault.0);
                core.kick();
                return fault.to_string().into();
            }
            core.endpoint.ping(ALIVE);
            core.kick();
        }
        if timeout(options.ping_timeout, shared.alive.notified()).await.is_err() {
            return format!("the peer left a PING unanswered for {:?}", options.ping_timeout).into();
        }
    }
}
