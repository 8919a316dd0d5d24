//! What one pod, or one tunnel, has only so many of (design 32). Constants beside them that are no bounds an operator
//! could want to change: sizes of buffers and turns, which measurements chose; the answer to a CONNECT of ours, which
//! says little; HPACK's table (RFC 7541), numbers of streams and frames (RFC 9113); frames that move nothing, of which
//! no peer in good faith sends so many.

use crate::telemetry::Bound;

/// Tunnels of one pool.
pub const TUNNELS: Bound = Bound::refusing("pod-tunnels", "tunnels of one pod are open");

/// Streams of one tunnel that a peer made.
pub const STREAMS: Bound = Bound::refusing("tunnel-streams", "streams of one tunnel are open");

/// The header list of one CONNECT.
pub const HEAD: Bound = Bound::refusing("tunnel-head", "bytes are read of the head of one CONNECT");

/// What is unread of one stream.
pub const AHEAD: Bound = Bound::slowing("stream-window", "bytes of one stream are unread");

/// What is unread in one tunnel.
pub const UNREAD: Bound = Bound::slowing("tunnel-window", "bytes of one tunnel are unread");

/// What waits of one pod.
pub const BUFFERED: Bound = Bound::slowing("pod-buffered", "bytes of one pod wait");
