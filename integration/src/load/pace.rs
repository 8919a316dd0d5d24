//! Requests at a steady rate on kept connections: each is timed from when it was due, so that a stall is felt by
//! every request it delays, and the rate never bends to the answers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use act::process::Failure;
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use super::client::{Target, exchange, within};

/// What pace to keep.
#[derive(Debug, Clone, clap::Args)]
pub struct PaceOptions {
    /// Where to: `http://host[:port]/path`
    pub url: String,
    /// Requests a second, all connections together
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Connections that share them
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub connections: u32,
    /// How long to go on
    #[arg(long, value_parser = humantime::parse_duration, default_value = "3s")]
    pub time: Duration,
}

/// How long the answers took, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Paced {
    /// Half of them within this.
    pub p50: f64,
    /// Nine of ten.
    pub p90: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 99 of 100 of those due in each second.
    pub seconds: Vec<f64>,
    /// Answered requests.
    pub answered: usize,
    /// Requests that failed, or found their connection gone; the connection is made anew.
    pub failed: usize,
}

/// The longest that one request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// When a request was due, from the start, and how long after that it was answered; `None`: it failed.
type Answer = (Duration, Option<Duration>);

/// Keeps the pace for its time and answers how it went.
///
/// # Errors
/// When the URL cannot be understood.
pub async fn pace(options: PaceOptions) -> Result<Paced, Failure> {
    let target = Arc::new(Target::parse(&options.url)?);
    let answers = Arc::new(Mutex::new(Vec::new()));
    let start = Instant::now() + Duration::from_millis(100);
    let mut connections = JoinSet::new();
    let between = Duration::from_secs(1) * options.connections / options.rate;
    for index in 0..options.connections {
        let (target, answers) = (target.clone(), answers.clone());
        let first = between * index / options.connections;
        connections.spawn(async move {
            let beat = Beat { start, first, between };
            one(&target, &beat, options.time, &answers).await;
        });
    }
    while connections.join_next().await.is_some() {}
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(summed(&answers))
}

/// When a connection's requests are due.
struct Beat {
    start: Instant,
    first: Duration,
    between: Duration,
}

async fn one(target: &Target, beat: &Beat, time: Duration, answers: &Mutex<Vec<Answer>>) {
    let mut kept = None;
    let mut due = beat.first;
    while due < time {
        tokio::time::sleep_until(beat.start + due).await;
        let sender = match kept.take() {
            Some(sender) => Ok(sender),
            None => within(PATIENCE, "connect", target.connect()).await,
        };
        let answer = match sender {
            Ok(sender) => within(PATIENCE, "answer", exchange(sender, target)).await,
            Err(why) => Err(why),
        };
        let took = answer.is_ok().then(|| (beat.start + due).elapsed());
        kept = answer
            .ok()
            .map(|(_, sender)| sender)
            .filter(|sender| !sender.is_closed());
        answers.lock().unwrap_or_else(PoisonError::into_inner).push((due, took));
        due += beat.between;
    }
}

fn summed(answers: &[Answer]) -> Paced {
    let times = |of: &dyn Fn(Duration) -> bool| {
        let mut times: Vec<f64> = answers
            .iter()
            .filter(|(due, _)| of(*due))
            .filter_map(|(_, took)| Some(took.as_ref()?.as_secs_f64() * 1e3))
            .collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let all = times(&|_| true);
    let last = answers.iter().map(|(due, _)| due.as_secs()).max().unwrap_or(0);
    let seconds = (0..=last).map(|second| quantile(&times(&|due| due.as_secs() == second), 0.99));
    Paced {
        p50: quantile(&all, 0.5),
        p90: quantile(&all, 0.9),
        p99: quantile(&all, 0.99),
        seconds: seconds.collect(),
        answered: all.len(),
        failed: answers.len() - all.len(),
    }
}

/// The least value that this part of them does not pass; 0 without any.
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let at = (sorted.len() as f64 * part).ceil() as usize;
    sorted.get(at.saturating_sub(1)).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_felt_by_every_request_that_was_due_in_it() {
        let milliseconds = Duration::from_millis;
        let mut answers: Vec<Answer> = (0..100)
            .map(|at| (milliseconds(at * 10), Some(milliseconds(1))))
            .collect();
        answers.extend((0..10).map(|at| (milliseconds(1000 + at * 10), Some(milliseconds(100 - at * 10)))));
        answers.push((milliseconds(1100), None));
        let paced = summed(&answers);
        assert_eq!((paced.answered, paced.failed, paced.p50), (110, 1, 1.0));
        assert_eq!(paced.seconds, [1.0, 100.0]);
        assert_eq!(paced.p99, 90.0);
    }
}
