//! What crosses the link of the last node, where the nodes are ours.

use act::process::Failure;

use super::stage::Stage;
use crate::observe::{Capture, tcpdump};

/// A node's interface towards the others, as `weft-cluster` names it.
const UPLINK: &str = "eth0";

/// A capture under way.
#[derive(Debug)]
pub(super) struct Wire(Capture);

impl Wire {
    /// Starts to capture, and looks for markers.
    pub(super) async fn open(stage: &Stage, markers: &[&str]) -> Result<Self, Failure> {
        let words = tcpdump(UPLINK);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        let words = stage
            .cluster
            .reach()
            .node_words(stage.last_node(), &words)
            .ok_or_else(|| Failure("the nodes of this cluster are not ours to look into".into()))?;
        let kept = std::env::temp_dir().join(format!("weft-e2e-{}.pcap", std::process::id()));
        let capture = Capture::begin(&words, &kept, markers).await?;
        // It is read as it comes; the file would only outlive the run.
        let _ = std::fs::remove_file(kept);
        Ok(Self(capture))
    }

    /// Looks for one more marker from now on.
    pub(super) fn look_for(&self, marker: &str) {
        self.0.look_for(marker);
    }

    /// Whether a marker crossed.
    pub(super) async fn saw(&self, marker: &str) -> bool {
        self.0.saw(marker).await
    }

    /// Bytes that crossed towards or from a port.
    pub(super) fn payload(&self, port: u16) -> u64 {
        self.0.seen().ports.get(&port).map_or(0, |port| port.payload)
    }

    /// Streams of a port that hold something other than TLS records.
    pub(super) fn not_tls(&self, port: u16) -> u64 {
        self.0.seen().ports.get(&port).map_or(0, |port| port.not_tls)
    }
}
