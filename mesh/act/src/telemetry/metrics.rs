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

/// A series nobody touched for this long leaves `/metrics`.
const IDLE: Duration = Duration::from_secs(600);
/// Ticks (one per [`Metrics::upkeep`], 5 s) after which an unused handle is dropped: well before [`IDLE`], because
/// an evicted series never comes back through a handle that is still held.
const IDLE_TICKS: u64 = 60;
/// Label sets a process keeps apart; flows beyond share one series per family, with every label `overflow`.
pub(super) const MOST_SERIES: usize = 20_000;

static TICK: AtomicU64 = AtomicU64::new(0);
static INSTALLED: OnceLock<Metrics> = OnceLock::new();
static SWEEPS: Mutex<Vec<fn()>> = Mutex::new(Vec::new());

/// A handle on the installed recorder.
#[derive(Debug, Clone)]
pub struct Metrics {
    prometheus: PrometheusHandle,
}

/// Handles by label set, resolved once and shared by every flow of that set.
pub(super) struct Series<K, M> {
    entries: Mutex<Option<HashMap<K, Entry<M>>>>,
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
        self.prometheus.render()
    }

    /// Drains histograms and drops idle handles; to be called every 5 s, else memory grows with traffic.
    pub fn upkeep(&self) {
        TICK.fetch_add(1, Ordering::Relaxed);
        self.prometheus.run_upkeep();
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
            .idle_timeout(MetricKindMask::COUNTER | MetricKindMask::HISTOGRAM, Some(IDLE))
            .set_buckets_for_metric(Matcher::Suffix("_milliseconds".into()), &milliseconds)
            .unwrap_or_else(|_| PrometheusBuilder::new())
            .build_recorder();
        let prometheus = recorder.handle();
        // A recorder installed by somebody else in this process (a test) stays: ours then measures nothing.
        let _ = metrics::set_global_recorder(recorder);
        Self { prometheus }
    }
}

impl<K: Hash + Eq, M> Series<K, M> {
    pub(super) const fn new() -> Self {
        Self {
            entries: Mutex::new(None),
        }
    }

    /// The handles of this label set; `resolve` makes them at the first use. `None` when [`MOST_SERIES`] are
    /// held already and this is a new one.
    pub(super) fn handles(&self, key: K, sweep: fn(), resolve: impl FnOnce(&K) -> M) -> Option<Arc<M>> {
        let mut guard = lock(&self.entries);
        let entries = guard.get_or_insert_with(|| {
            lock(&SWEEPS).push(sweep);
            HashMap::new()
        });
        let used = TICK.load(Ordering::Relaxed);
        if let Some(entry) = entries.get_mut(&key) {
            entry.used = used;
            return Some(entry.handles.clone());
        }
        if entries.len() >= MOST_SERIES {
            return None;
        }
        let handles = Arc::new(resolve(&key));
        entries.insert(
            key,
            Entry {
                handles: handles.clone(),
                used,
            },
        );
        Some(handles)
    }

    /// Drops handles that no flow holds and none asked for lately.
    pub(super) fn sweep(&self) {
        let now = TICK.load(Ordering::Relaxed);
        if let Some(entries) = lock(&self.entries).as_mut() {
            entries.retain(|_, entry| Arc::strong_count(&entry.handles) > 1 || now - entry.used < IDLE_TICKS);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handles_are_resolved_once_and_unused_ones_are_dropped() {
        static SERIES: Series<u32, u32> = Series::new();
        fn sweep() {
            SERIES.sweep();
        }
        let first = SERIES.handles(1, sweep, |key| key * 10).unwrap();
        let again = SERIES.handles(1, sweep, |_| panic!("resolved twice")).unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        TICK.fetch_add(IDLE_TICKS + 1, Ordering::Relaxed);
        SERIES.sweep();
        assert!(Arc::ptr_eq(
            &first,
            &SERIES.handles(1, sweep, |_| panic!("held handles stay")).unwrap()
        ));
        drop((first, again));
        TICK.fetch_add(IDLE_TICKS + 1, Ordering::Relaxed);
        SERIES.sweep();
        assert_eq!(*SERIES.handles(1, sweep, |_| 7).unwrap(), 7);
    }

    #[test]
    fn label_sets_are_bounded() {
        static SERIES: Series<usize, ()> = Series::new();
        for key in 0..MOST_SERIES {
            assert!(SERIES.handles(key, || (), |_| ()).is_some());
        }
        assert!(SERIES.handles(MOST_SERIES, || (), |_| ()).is_none());
        assert!(SERIES.handles(0, || (), |_| ()).is_some());
    }
}
