//! One case of one subject under load: traffic goes in, figures come out.

use std::time::Duration;

use act::process::Failure;

use super::{
    Case, Figures, Metric, Subject,
    ground::Ground,
    objects::{self, FAR_PODS},
    readings::{iperf, wrk},
};
use crate::load::Paced;

/// Requests a second where the rate is fixed.
const RATE: u32 = 1_000;
/// Files written in a burst: each changes every pod of the far nodes.
const WRITES: u32 = 10_000 / FAR_PODS;
/// Seconds that a burst takes, and those before that it is compared with.
const BURST: u32 = 10;

/// One subject's turn at a case.
pub(super) struct Turn<'a> {
    pub(super) ground: &'a Ground,
    pub(super) case: Case,
    pub(super) subject: Subject,
    pub(super) figures: &'a mut Figures,
}

impl Turn<'_> {
    /// Runs the case.
    pub(super) async fn take(&mut self) -> Result<(), Failure> {
        match self.case {
            Case::Throughput1 => self.stream("client", 1).await,
            Case::Throughput4 => self.stream("client", 4).await,
            Case::Throughput16 => self.stream("client", 16).await,
            Case::SameNode => self.stream("near", 1).await,
            Case::Http1 => self.requests(1, 80, false).await,
            Case::Http64 => self.requests(64, 80, false).await,
            Case::NewConnections => self.requests(16, 80, true).await,
            Case::Handshakes => self.requests(16, 81, true).await,
            Case::FixedRate => self.fixed().await,
            Case::Neighbour => self.neighbour().await,
            Case::Burst => self.burst().await,
            Case::Idle => self.idle().await,
        }
    }

    pub(super) fn add(&mut self, metric: Metric, value: f64) {
        self.figures.add(self.case, self.subject, metric, value);
    }

    /// iperf3, its own sockets on cubic.
    async fn stream(&mut self, from: &str, streams: u32) -> Result<(), Failure> {
        let before = self.ground.cpu(self.subject, from).await?;
        let text = self.iperf(from, streams, self.ground.options.seconds).await?;
        let used = self.ground.cpu(self.subject, from).await? - before;
        let moved = iperf(&text)?;
        self.add(Metric::GbitPerS, moved.gbit_per_s);
        if streams > 1 {
            self.add(Metric::SlowestStream, moved.slowest);
        }
        if self.subject != Subject::Direct {
            self.add(Metric::CpuPerGb, used / (moved.bytes / 1e9));
        }
        Ok(())
    }

    async fn iperf(&self, from: &str, streams: u32, seconds: u32) -> Result<String, Failure> {
        let (service, streams, time) = (self.subject.service(), streams.to_string(), seconds.to_string());
        let words = [
            "iperf3", "-c", &service, "-p", "5201", "-C", "cubic", "-P", &streams, "-t", &time, "-J",
        ];
        let most = Duration::from_secs(u64::from(seconds) + 20);
        self.ground.run(&self.subject.pod(from), &words, most).await
    }

    /// wrk, with nginx behind.
    async fn requests(&mut self, connections: u32, port: u16, new: bool) -> Result<(), Failure> {
        let seconds = self.ground.options.seconds;
        let threads = connections.min(2).to_string();
        let (connections, time) = (connections.to_string(), format!("{seconds}s"));
        let url = format!("http://{}:{port}/", self.subject.service());
        let mut words = vec!["wrk", "--latency", "-t", &threads, "-c", &connections, "-d", &time];
        if new {
            words.extend(["-H", "Connection: close"]);
        }
        words.push(&url);
        let before = self.ground.cpu(self.subject, "client").await?;
        let most = Duration::from_secs(u64::from(seconds) + 20);
        let text = self.ground.run(&self.subject.pod("client"), &words, most).await?;
        let used = self.ground.cpu(self.subject, "client").await? - before;
        let asked = wrk(&text)?;
        if !asked.errors.is_empty() {
            let (case, subject) = (self.case.name(), self.subject.name());
            self.ground
                .screen
                .progress(&format!("{case} {subject}: {}", asked.errors));
        }
        let rate = if new {
            Metric::ConnectionsPerS
        } else {
            Metric::RequestsPerS
        };
        self.add(rate, asked.per_second);
        self.add(Metric::P50, asked.p50);
        self.add(Metric::P90, asked.p90);
        self.add(Metric::P99, asked.p99);
        if self.subject != Subject::Direct {
            self.add(Metric::CpuPer10k, used / (asked.requests / 1e4));
        }
        Ok(())
    }

    async fn paced(&self, seconds: u32) -> Result<Paced, Failure> {
        let url = format!("http://{}/", self.subject.service());
        let (rate, time) = (RATE.to_string(), format!("{seconds}s"));
        let words = ["pace", &url, "--rate", &rate, "--connections", "8", "--time", &time];
        let most = Duration::from_secs(u64::from(seconds) + 30);
        let text = self.ground.own(&self.subject.pod("client"), &words, most).await?;
        let paced: Paced =
            serde_json::from_str(&text).map_err(|error| Failure(format!("the pace was not told: {error}")))?;
        if paced.failed > 0 || paced.answered == 0 {
            let Paced { answered, failed, .. } = paced;
            return Err(Failure(format!(
                "at a fixed rate {failed} requests failed, {answered} were answered"
            )));
        }
        Ok(paced)
    }

    async fn fixed(&mut self) -> Result<(), Failure> {
        let before = self.ground.cpu(self.subject, "client").await?;
        let paced = self.paced(self.ground.options.seconds).await?;
        let used = self.ground.cpu(self.subject, "client").await? - before;
        for (metric, value) in [
            (Metric::P50, paced.p50),
            (Metric::P90, paced.p90),
            (Metric::P99, paced.p99),
        ] {
            self.add(metric, value);
        }
        if self.subject != Subject::Direct {
            self.add(Metric::CpuPer10k, used / (paced.answered as f64 / 1e4));
        }
        Ok(())
    }

    /// The peers' proxies are a pod's own here, so that there is nothing for two pods to share: they have no turn.
    async fn neighbour(&mut self) -> Result<(), Failure> {
        if matches!(self.subject, Subject::Haproxy | Subject::Envoy) {
            return Ok(());
        }
        let seconds = self.ground.options.seconds;
        let alone = self.paced(seconds).await?;
        let before = self.ground.cpu(self.subject, "client").await?;
        let (moved, paced) = tokio::join!(self.iperf("noisy", 1, seconds + 1), self.paced(seconds));
        let used = self.ground.cpu(self.subject, "client").await? - before;
        let (moved, paced) = (iperf(&moved?)?, paced?);
        self.add(Metric::P99Alone, alone.p99);
        self.add(Metric::P50, paced.p50);
        self.add(Metric::P90, paced.p90);
        self.add(Metric::P99, paced.p99);
        self.add(Metric::GbitPerS, moved.gbit_per_s);
        if self.subject == Subject::Weft {
            self.add(Metric::CpuPerGb, used / (moved.bytes / 1e9));
        }
        Ok(())
    }

    /// The worst of the seconds with changes over the worst of as many before.
    async fn burst(&mut self) -> Result<(), Failure> {
        if self.subject != Subject::Weft {
            return Ok(());
        }
        let changes = async {
            tokio::time::sleep(Duration::from_secs(u64::from(BURST))).await;
            let mut tick = tokio::time::interval(Duration::from_secs(BURST.into()) / WRITES);
            for write in 1..=WRITES {
                tick.tick().await;
                self.ground.write("20-far.yaml", &objects::far(write))?;
            }
            Ok::<_, Failure>(())
        };
        let (paced, changed) = tokio::join!(self.paced(2 * BURST), changes);
        changed?;
        let paced = paced?;
        let worst = |seconds: &[f64]| seconds.iter().copied().fold(0.0, f64::max);
        let (calm, busy) = paced.seconds.split_at(paced.seconds.len().min(BURST as usize));
        self.add(Metric::Worst, worst(busy) / worst(calm));
        self.add(Metric::P99Alone, worst(calm));
        self.add(Metric::P99, worst(busy));
        Ok(())
    }
}
