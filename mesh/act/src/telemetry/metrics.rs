//! The Prometheus recorder of this process, and the caches of resolved handles.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_util::MetricKindMask;

use super::{descriptions, logs, options::Told, transient};

/// From one [`Metrics::upkeep`] to the next.
const UPKEEP: Duration = Duration::from_secs(5);
static TICK: AtomicU64 = AtomicU64::new(0);
static INSTALLED: OnceLock<Metrics> = OnceLock::new();
static SWEEPS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// A handle on the installed recorder.
#[derive(Debug, Clone)]
pub struct Metrics {
    prometheus: PrometheusHandle,
}

/// Handles by label set, resolved once and shared by every flow of that set. Label sets beyond the bound
/// (`--metric-series`) share one more.
pub(super) struct Series<K, M> {
    family: &'static str,
    entries: Mutex<Option<HashMap<Option<K>, Entry<M>>>>,
    overflowed: AtomicU64,
}

struct Entry<M> {
    handles: Arc<M>,
    used: u64,
}

impl Metrics {
    /// Installs the recorder. Once per process; a later call answers the first's handle.
    pub fn install() -> Self {
        INSTALLED.get_or_init(Self::build).clone()
    }

    /// Everything measured, in Prometheus' text format.
    pub fn render(&self) -> String {
        let mut text = self.prometheus.render();
        transient::render(&mut text);
        text
    }

    /// Drains histograms and drops idle handles; to be called every 5 s, else memory grows with traffic.
    pub fn upkeep(&self) {
        TICK.fetch_add(1, Ordering::Relaxed);
        self.prometheus.run_upkeep();
        Told::in_force().publish();
        logs::publish();
        let sweeps = lock(&SWEEPS).clone();
        for sweep in sweeps {
            sweep();
        }
    }

    fn build() -> Self {
        let milliseconds = [
            0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 5000.0, 10_000.0, 30_000.0,
        ];
        let recorder = PrometheusBuilder::new()
            .idle_timeout(
                MetricKindMask::COUNTER | MetricKindMask::HISTOGRAM,
                Some(Told::in_force().idle),
            )
            .set_buckets_for_metric(Matcher::Suffix("_milliseconds".into()), &milliseconds)
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        let prometheus = recorder.handle();
        // A recorder installed by somebody else in this process (a test) stays: ours then measures nothing.
        let _ = metrics::set_global_recorder(recorder);
        descriptions::describe();
        Self { prometheus }
    }
}

impl<K: Hash + Eq, M> Series<K, M> {
    /// A family without series yet, by the name under which its size is told.
    pub(super) const fn new(family: &'static str) -> Self {
        Self {
            family,
            entries: Mutex::new(None),
            overflowed: AtomicU64::new(0),
        }
    }

    /// The handles of this label set, or, where `most` are held already and this is a new one, those of all that
    /// have no place. `resolve` makes them (of `None`: for all those) at the first use.
    pub(super) fn handles(&self, key: K, most: usize, sweep: fn(), resolve: impl FnOnce(Option<&K>) -> M) -> Arc<M> {
        let mut guard = lock(&self.entries);
        let entries = guard.get_or_insert_with(|| {
            lock(&SWEEPS).push(sweep);
            HashMap::new()
        });
        let mut key = Some(key);
        if entries.len() >= most && !entries.contains_key(&key) {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            key = None;
        }
        let used = TICK.load(Ordering::Relaxed);
        if let Some(entry) = entries.get_mut(&key) {
            entry.used = used;
            return entry.handles.clone();
        }
        let handles = Arc::new(resolve(key.as_ref()));
        entries.insert(
            key,
            Entry {
                handles: handles.clone(),
                used,
            },
        );
        handles
    }

    /// Drops handles that no flow holds and none asked for lately; tells how many are left.
    pub(super) fn sweep(&self) {
        let (now, most) = (TICK.load(Ordering::Relaxed), unused_ticks(Told::in_force().idle));
        let mut held = 0;
        if let Some(entries) = lock(&self.entries).as_mut() {
            entries.retain(|_, entry| Arc::strong_count(&entry.handles) > 1 || now - entry.used < most);
            held = entries.len();
        }
        metrics::gauge!("weft_metric_series", "family" => self.family).set(held as f64);
        metrics::counter!("weft_metric_series_overflowed_total", "family" => self.family)
            .absolute(self.overflowed.load(Ordering::Relaxed));
    }
}

/// Ticks (one per [`Metrics::upkeep`]) after which an unused handle is dropped: well before its series is evicted for
/// being idle, because an evicted series never comes back through a handle that is still held.
fn unused_ticks(idle: Duration) -> u64 {
    (idle / 2).as_secs() / UPKEEP.as_secs()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use metrics::Counter;
    use tokio::time::Instant;

    use super::{super::options::LEAST_IDLE, *};

    #[test]
    fn handles_are_resolved_once_and_unused_ones_are_dropped() {
        static SERIES: Series<u32, u32> = Series::new("once");
        let handles = |resolve: &dyn Fn(u32) -> u32| {
            SERIES.handles(1, 10, || SERIES.sweep(), |key| resolve(*key.expect("there is room")))
        };
        let first = handles(&|key| key * 10);
        let again = handles(&|_| panic!("resolved twice"));
        assert!(Arc::ptr_eq(&first, &again));
        TICK.fetch_add(unused_ticks(Told::in_force().idle) + 1, Ordering::Relaxed);
        SERIES.sweep();
        assert!(Arc::ptr_eq(&first, &handles(&|_| panic!("held handles stay"))));
        drop((first, again));
        TICK.fetch_add(unused_ticks(Told::in_force().idle) + 1, Ordering::Relaxed);
        SERIES.sweep();
        assert_eq!(*handles(&|_| 7), 7);
    }

    #[test]
    fn label_sets_are_bounded() {
        static SERIES: Series<usize, Option<usize>> = Series::new("bounded");
        let handles = |key| SERIES.handles(key, 100, || (), |key| key.copied());
        for key in 0..100 {
            assert_eq!(*handles(key), Some(key));
        }
        let beyond = handles(100);
        assert_eq!(*beyond, None);
        assert!(Arc::ptr_eq(&beyond, &handles(101)), "resolved once for all of them");
        assert_eq!(*handles(0), Some(0));
        assert_eq!(SERIES.overflowed.load(Ordering::Relaxed), 2);
    }

    /// The trap: a series that the exporter has evicted never comes back through a handle that is still held.
    #[test]
    fn an_idle_series_leaves_and_a_live_one_never_loses_counts() {
        static SERIES: Series<&'static str, Counter> = Series::new("live");
        const IDLE: Duration = Duration::from_secs(2);
        let recorder = PrometheusBuilder::new()
            .idle_timeout(MetricKindMask::COUNTER, Some(IDLE))
            .build_recorder();
        let handle = recorder.handle();
        let told = |series: &str| {
            let text = handle.render();
            let line = text.lines().find(|line| line.starts_with(series))?;
            line.rsplit(' ').next()?.parse::<u64>().ok()
        };
        metrics::with_local_recorder(&recorder, || {
            let series = |key| SERIES.handles(key, 10, || (), |key| metrics::counter!(*key.expect("room")));
            let (live, idle) = (series("live"), series("idle"));
            live.increment(3);
            idle.increment(3);
            let started = Instant::now();
            while told("idle").is_some() || started.elapsed() < IDLE * 2 {
                live.increment(0);
                assert_eq!(told("live"), Some(3), "what ticks stays");
                assert!(started.elapsed() < IDLE * 30, "what is idle leaves");
                std::thread::sleep(Duration::from_millis(20));
            }
            idle.increment(1);
            assert_eq!(told("idle"), None, "the handle that is held leads nowhere: the trap");
            drop(idle);
            TICK.fetch_add(unused_ticks(Told::in_force().idle) + 1, Ordering::Relaxed);
            SERIES.sweep();
            series("idle").increment(1);
            assert_eq!(told("idle"), Some(1), "ours are resolved anew after a sweep");
            live.increment(4);
            assert_eq!(told("live"), Some(7));
        });
    }

    #[test]
    fn unused_handles_are_dropped_well_before_their_series_are_evicted() {
        for idle in [LEAST_IDLE, Told::in_force().idle, Duration::from_secs(86_399)] {
            let dropped_after = UPKEEP * u32::try_from(unused_ticks(idle)).unwrap();
            assert!(dropped_after * 2 <= idle && dropped_after >= UPKEEP);
            assert!(super::super::FLOW_TICK * 4 <= idle, "live connections tick");
        }
    }
}
