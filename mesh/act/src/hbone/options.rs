//! How our tunnels are tuned.

use std::time::Duration;

use super::{
    Budget,
    frames::{Settings, Side},
    pressure::Pressure,
};

/// Windows, frames, bounds and timers of a tunnel. The defaults are what measurements favour: a stream window
/// at HTTP/2's own 64 KiB would halve the speed of one stream.
#[derive(Debug, Clone)]
pub struct TunnelOptions {
    /// What a peer may send on one stream before we have passed it on, in bytes.
    pub stream_window: u32,
    /// What a peer may send on all streams together before we have passed it on, in bytes.
    pub tunnel_window: u32,
    /// Largest frame, in bytes: 16 KiB to 16 MiB - 1.
    pub frame: u32,
    /// Header list of a CONNECT in a tunnel that a peer made, in bytes.
    pub head: u32,
    /// Streams a peer may have open in a tunnel it made.
    pub streams_served: u32,
    /// Streams we open in one tunnel before we make a second one.
    pub streams_used: usize,
    /// Bytes of all streams that wait to be written to the tunnel.
    pub send_buffer: u32,
    /// Time from accepted socket to finished handshakes.
    pub handshake: Duration,
    /// Time between PINGs.
    pub ping_interval: Duration,
    /// How long a PING may stay unanswered before the tunnel is dead.
    pub ping_timeout: Duration,
    /// How long a tunnel we made stays open without a stream.
    pub idle: Duration,
    /// Of the pod whose tunnels they are: what nobody has read and what the peer does not take count against it, and
    /// the more of it is used, the smaller are the windows and what waits to be written.
    pub budget: Budget,
}

/// Header list we accept from a server, in bytes: an answer says little, and we asked for it.
const CLIENT_HEADERS: u32 = 16 * 1024;
impl Default for TunnelOptions {
    fn default() -> Self {
        Self {
            stream_window: 1 << 20,
            tunnel_window: 8 << 20,
            frame: 64 << 10,
            head: 64 << 10,
            streams_served: 200,
            streams_used: 100,
            send_buffer: 256 << 10,
            handshake: Duration::from_secs(10),
            ping_interval: Duration::from_secs(10),
            ping_timeout: Duration::from_secs(20),
            idle: Duration::from_secs(300),
            budget: Budget::default(),
        }
    }
}

impl TunnelOptions {
    pub(super) fn frames(&self, side: Side) -> Settings {
        Settings {
            stream_window: Pressure::of_pod(&self.budget).lessen(self.stream_window),
            window: self.tunnel_window,
            frame: self.frame,
            streams: self.streams_served,
            head: match side {
                Side::Client => CLIENT_HEADERS,
                Side::Server => self.head,
            },
            opened: u32::try_from(self.streams_used).unwrap_or(u32::MAX),
        }
    }
}
