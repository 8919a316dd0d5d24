//! What waits in a tunnel, and what may: counted against its pod, it says how far ahead the peer may send.

use super::{AHEAD, BUFFERED, Budget, Held, TunnelOptions, UNREAD, pressure::Pressure};

/// Less room than this is not worth a turn.
pub(super) const WORTHWHILE: usize = 16 * 1024;

/// What waits in a tunnel, and what may.
#[derive(Debug)]
pub(super) struct Load {
    /// Of the pod whose tunnel it is.
    budget: Budget,
    /// Bytes unread, and bytes that the connection does not take.
    held: Held,
    /// Those that the connection did not take last.
    writing: usize,
    pressure: Pressure,
    /// Windows of a stream and of the tunnel, and bytes that may wait to be written, while there is no pressure.
    most: (u32, u32, u32),
}

impl Load {
    /// Nothing yet.
    pub(super) fn new(options: &TunnelOptions) -> Self {
        Self {
            held: options.budget.hold(0),
            writing: 0,
            pressure: Pressure::of_pod(&options.budget),
            budget: options.budget.clone(),
            most: (options.stream_window, options.tunnel_window, options.send_buffer),
        }
    }

    /// Bytes that may wait to be written.
    pub(super) fn most_waiting(&self) -> usize {
        let bytes = usize::try_from(self.pressure.lessen(self.most.2)).unwrap_or(usize::MAX);
        bytes.max(WORTHWHILE)
    }

    /// The connection does not take so many bytes.
    pub(super) fn blocked(&mut self, writing: usize) {
        self.writing = writing;
    }

    /// Counts so many bytes unread against the pod.
    pub(super) fn recount(&mut self, unread: usize) {
        self.held.set(unread + self.writing);
    }

    /// What the peer may send ahead on a stream from now on, with so many bytes unread.
    pub(super) fn settle(&mut self, unread: usize) -> u32 {
        self.recount(unread);
        let (stream, tunnel, _) = self.most;
        let before = self.pressure;
        self.pressure = before.next(&self.budget, unread, tunnel);
        if self.pressure > before {
            let pods = self.pressure == Pressure::of_pod(&self.budget);
            if pods { BUFFERED } else { UNREAD }.hit(1);
        }
        self.pressure.lessen(stream)
    }

    /// Bytes of one stream came in that nobody has taken, after `before` others of it. Counted once half a window of
    /// them waits: its peer is told of room by halves, and may soon send no more.
    pub(super) fn waits(&self, before: usize, more: usize) {
        if self.is_half_full(before + more) && !self.is_half_full(before) {
            AHEAD.hit(1);
        }
    }

    /// Whether so many unread bytes would be half of a stream's window.
    pub(super) fn is_half_full(&self, unread: usize) -> bool {
        unread >= usize::try_from(self.most.0 / 2).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn a_stream_counts_as_slowed_from_half_of_its_window_on() {
        let load = Load::new(&TunnelOptions {
            stream_window: 100_000,
            ..TunnelOptions::default()
        });
        let full = [0, 49_999, 50_000, 100_000].map(|unread| load.is_half_full(unread));
        assert_eq!(full, [false, false, true, true]);
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            load.waits(0, 49_999);
            assert!(!handle.render().contains("stream-window"), "{}", handle.render());
            // Once, however much more of it comes.
            load.waits(49_999, 1);
            load.waits(50_000, 10);
        });
        let told = "weft_flows_slowed_total{bound=\"stream-window\"} 1\n";
        assert!(handle.render().contains(told), "{}", handle.render());
    }
}
