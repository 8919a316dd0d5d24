//! Memory: at rest, of idle connections, after load.

use std::{fs, time::Duration};

use act::process::Failure;

use super::{Case, Figures, Metric, Subject, ground::Ground, measure::Turn, usage};
use crate::check::own_program;

/// Idle connections by which their cost is told.
const SOME: u32 = 2_000;
/// Idle connections that ours must hold.
const MANY: u32 = 10_000;
/// How long memory may take to settle.
const SETTLE: Duration = Duration::from_secs(2);

impl Turn<'_> {
    /// Rest, then connections that say nothing.
    pub(super) async fn idle(&mut self) -> Result<(), Failure> {
        if self.subject == Subject::Direct {
            return Ok(());
        }
        tokio::time::sleep(SETTLE).await;
        let before = memory(self.ground, self.subject).await?;
        self.add(Metric::RssMb, before.iter().copied().fold(0.0, f64::max) / 1e6);
        let count = if self.subject == Subject::Weft { MANY } else { SOME };
        let log = self
            .ground
            .world
            .run_directory()
            .log(&format!("hold-{}", self.subject.name()));
        let to = format!("{}:80", self.subject.service());
        let (own, asked) = (own_program()?, count.to_string());
        let words = [&*own, "hold", &to, "--count", &asked];
        let (pod, name) = (self.subject.pod("client"), format!("hold-{}", self.subject.name()));
        let holder = self.ground.world.spawn_in(&pod, &name, &words).await?;
        let told = |word: &'static str| {
            let log = log.clone();
            async move { number(&log, word) }
        };
        let connected = until(Duration::from_secs(60), || told("connected")).await?;
        tokio::time::sleep(SETTLE).await;
        let during = memory(self.ground, self.subject).await?;
        let grown: f64 = during.iter().sum::<f64>() - before.iter().sum::<f64>();
        self.add(Metric::KbPerIdle, grown / 1e3 / 2.0 / f64::from(connected.max(1)));
        holder.terminate();
        let answered = until(Duration::from_secs(60), || told("answered")).await?;
        self.add(Metric::Held, f64::from(answered));
        Ok(())
    }
}

/// What every subject's proxies hold after everything.
pub(super) async fn after(ground: &Ground, figures: &mut Figures) -> Result<(), Failure> {
    tokio::time::sleep(SETTLE).await;
    for subject in ground.options.subjects() {
        if subject != Subject::Direct {
            let larger = memory(ground, subject).await?.into_iter().fold(0.0, f64::max);
            figures.add(Case::Idle, subject, Metric::RssAfter, larger / 1e6);
        }
    }
    Ok(())
}

async fn memory(ground: &Ground, subject: Subject) -> Result<Vec<f64>, Failure> {
    let pids = ground.proxies(subject, "client").await?;
    pids.into_iter().map(usage::memory).collect()
}

async fn until<F: Future<Output = Option<u32>>>(most: Duration, mut ask: impl FnMut() -> F) -> Result<u32, Failure> {
    let end = tokio::time::Instant::now() + most;
    while tokio::time::Instant::now() < end {
        if let Some(value) = ask().await {
            return Ok(value);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Failure("the idle connections were not told of in time".into()))
}

fn number(log: &std::path::Path, word: &str) -> Option<u32> {
    let text = fs::read_to_string(log).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(word))?;
    line.trim().parse().ok()
}
