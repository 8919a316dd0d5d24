//! New connections at a steady rate, one request each: the rate comes in and is kept whatever the answers do, so that
//! what waits is seen as waiting and never as fewer requests.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::Semaphore,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    client::{LoadOptions, Target, exchange, within},
    report::Tick,
};

/// Requests under way at once; one more is not begun and counts as failed.
const MOST: usize = 2_000;

/// Begins a connection at every beat until it is stopped, then waits for those under way.
pub(super) async fn connections(
    options: LoadOptions,
    target: Arc<Target>,
    tick: Arc<Mutex<Tick>>,
    stop: CancellationToken,
) {
    let mut beat = interval(Duration::from_secs(1) / options.rate.unwrap_or(1));
    // A pause of this process is made up for: the requests it did not begin are begun late, not left out.
    beat.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let most = options.room.map_or(MOST, |room| room as usize);
    let room = Arc::new(Semaphore::new(most));
    let mut under_way = JoinSet::new();
    let mut left = options.requests.unwrap_or(u64::MAX);
    while left > 0 && stop.run_until_cancelled(beat.tick()).await.is_some() {
        left -= 1;
        while under_way.try_join_next().is_some() {}
        if options.room.is_some() {
            let _ = room.acquire().await;
        }
        let Ok(permit) = room.clone().try_acquire_owned() else {
            tell(&tick, |tick| tick.failed(&format!("not begun: {most} are under way")));
            continue;
        };
        let (target, tick, patience) = (target.clone(), tick.clone(), options.patience);
        under_way.spawn(async move {
            let _permit = permit;
            one(&target, &tick, patience).await;
        });
    }
    while under_way.join_next().await.is_some() {}
}

async fn one(target: &Target, tick: &Mutex<Tick>, patience: Duration) {
    let begun = Instant::now();
    let answered = async {
        let sender = within(patience, "connect", target.connect()).await?;
        within(patience, "answer", exchange(sender, target)).await
    };
    match answered.await {
        Ok((word, _)) => tell(tick, |tick| tick.answered(&word, false, begun.elapsed())),
        Err(why) => tell(tick, |tick| tick.failed(&why)),
    }
}

fn tell(tick: &Mutex<Tick>, change: impl FnOnce(&mut Tick)) {
    change(&mut tick.lock().unwrap_or_else(PoisonError::into_inner));
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::load::{Report, generate};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: LoadOptions,
    }

    async fn load(port: u16, seconds: &str) -> Report {
        load_with(port, &["--time", seconds]).await
    }

    async fn load_with(port: u16, more: &[&str]) -> Report {
        let url = format!("http://127.0.0.1:{port}/");
        let words = [&["load", &url, "--rate", "100", "--patience", "1s"], more].concat();
        let line = <Line as clap::Parser>::parse_from(words);
        let mut out = Vec::new();
        generate(line.options, &CancellationToken::new(), &mut out)
            .await
            .unwrap();
        Report::read(&String::from_utf8(out).unwrap())
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_a_failure_for_every_beat() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let report = load(silent.local_addr().unwrap().port(), "1s").await;
        assert!(report.is_whole());
        assert!((90..=110).contains(&report.failed()), "{}", report.summary());
        assert_eq!(report.answered(), 0);
    }

    #[tokio::test]
    async fn a_beat_that_finds_no_room_waits_for_it_where_that_is_asked_for() {
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let report = load_with(port, &["--room", "5", "--requests", "10"]).await;
        assert!(report.is_whole());
        assert_eq!(
            report.failed(),
            10,
            "each was begun, and none is answered: {}",
            report.summary()
        );
        assert!(!report.summary().contains("not begun"), "{}", report.summary());
    }

    #[tokio::test]
    async fn a_graceful_server_fails_none_and_one_that_just_ends_does() {
        for (linger, graceful) in [(Duration::from_millis(600), true), (Duration::ZERO, false)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let stop = CancellationToken::new();
            let options = crate::load::ServeOptions::for_test(linger);
            let server = tokio::spawn({
                let stop = stop.clone();
                async move { crate::load::serve(listener, &options, &stop).await }
            });
            let halted = tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(500)).await;
                stop.cancel();
            });
            let report = load(port, "900ms").await;
            halted.await.unwrap();
            server.await.unwrap();
            assert!(report.answered() > 30, "{}", report.summary());
            assert_eq!(report.failed() == 0, graceful, "{}", report.summary());
        }
    }
}
