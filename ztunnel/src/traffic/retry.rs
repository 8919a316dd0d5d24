//! Whether another endpoint, or the same once more, may help a connection that has sent nothing yet.

use std::{net::SocketAddr, time::Duration};

use decide::model::Refusal;
use tokio::time::Instant;

use super::TrafficOptions;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// What was tried for one connection.
pub(super) struct Retry {
    since: Instant,
    /// Endpoints that failed it.
    tried: Vec<SocketAddr>,
    /// Those, and others that failed a moment ago.
    avoid: Vec<SocketAddr>,
    /// The last failure was a refused dial of HBONE: its listener may be about to open.
    opening: bool,
    pause: Duration,
    attempts: usize,
    hold: Duration,
    deadline: Duration,
}

impl Retry {
    /// Nothing was tried yet; these failed others a moment ago.
    pub(super) fn new(options: &TrafficOptions, failed: Vec<SocketAddr>) -> Self {
        Self {
            since: Instant::now(),
            tried: Vec::new(),
            avoid: failed,
            opening: false,
            pause: FIRST_PAUSE,
            attempts: options.attempts,
            hold: options.hold,
            deadline: options.pool.deadline,
        }
    }

    /// When the connection arrived.
    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// Endpoints that are used when no other is left.
    pub(super) fn avoid(&self) -> &[SocketAddr] {
        &self.avoid
    }

    /// Whether this endpoint failed before: no other is left.
    pub(super) fn tried(&self, endpoint: SocketAddr) -> bool {
        self.tried.contains(&endpoint)
    }

    /// Notes a failure of an endpoint (`dialled`: where its tunnel is dialled, if it takes one); says whether
    /// another endpoint, or time, may help.
    pub(super) fn may_help(&mut self, endpoint: SocketAddr, dialled: Option<SocketAddr>, refusal: &Refusal) -> bool {
        self.opening = matches!(refusal, Refusal::ConnectFailed(at, _) if Some(*at) == dialled);
        if !self.tried(endpoint) {
            self.tried.push(endpoint);
        }
        if !self.avoid.contains(&endpoint) {
            self.avoid.push(endpoint);
        }
        let helps = is_the_endpoints(refusal) && !matches!(refusal, Refusal::DeadlineExceeded(_));
        helps && self.tried.len() < self.attempts && self.since.elapsed() < self.deadline
    }

    /// How long to wait before an endpoint that failed is tried again; `None`: it is not.
    pub(super) fn pause(&mut self) -> Option<Duration> {
        let pause = self.pause;
        self.pause = (pause * 2).min(LONGEST_PAUSE);
        (self.opening && self.since.elapsed() + pause < self.hold).then_some(pause)
    }
}

/// Whether the fault is the endpoint's, so that another may do better.
pub(super) fn is_the_endpoints(refusal: &Refusal) -> bool {
    matches!(
        refusal,
        Refusal::ConnectFailed(..)
            | Refusal::PeerNotVerified(_)
            | Refusal::DeadlineExceeded(_)
            | Refusal::RefusedByPeer(503, _)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    fn failed(at: SocketAddr) -> Refusal {
        Refusal::ConnectFailed(at, "refused".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_tunnel_is_dialled_again_within_the_hold_and_no_longer() {
        let mut retry = Retry::new(&TrafficOptions::default(), Vec::new());
        let hbone = SocketAddr::from(([10, 0, 0, 1], 15008));
        assert!(retry.may_help(at(1), Some(hbone), &failed(hbone)));
        let start = Instant::now();
        while let Some(pause) = retry.pause() {
            tokio::time::sleep(pause).await;
            assert!(retry.may_help(at(1), Some(hbone), &failed(hbone)));
        }
        let held = start.elapsed();
        assert!(
            held > Duration::from_secs(4) && held < Duration::from_secs(5),
            "{held:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_refuses_is_not_asked_twice() {
        let mut retry = Retry::new(&TrafficOptions::default(), Vec::new());
        let hbone = SocketAddr::from(([10, 0, 0, 1], 15008));
        assert!(retry.may_help(at(1), Some(hbone), &Refusal::RefusedByPeer(503, "CONNECT".into())));
        assert_eq!(retry.pause(), None);
        assert!(retry.tried(at(1)) && !retry.tried(at(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_is_final() {
        let mut retry = Retry::new(&TrafficOptions::default(), Vec::new());
        assert!(!retry.may_help(at(1), None, &Refusal::RefusedByPeer(403, "DENY".into())));
    }

    #[tokio::test(start_paused = true)]
    async fn endpoints_tried_are_bounded() {
        let mut retry = Retry::new(&TrafficOptions::default(), Vec::new());
        let tried = (1..=100)
            .take_while(|last| retry.may_help(at(*last), None, &failed(at(*last))))
            .count();
        assert_eq!(tried + 1, TrafficOptions::default().attempts);
    }
}
