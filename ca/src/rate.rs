//! How often one caller may ask: a token bucket each, in a bounded table.

use std::{collections::HashMap, sync::Mutex, sync::PoisonError};

use tokio::time::Instant;

/// Callers remembered at once.
const MOST_CALLERS: usize = 16_384;

/// Allows each caller a burst, and after that so many requests a second.
#[derive(Debug)]
pub struct Rate {
    burst: f64,
    per_second: f64,
    callers: Mutex<HashMap<String, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Rate {
    /// `burst` requests at once, `per_second` on end.
    pub fn new(burst: u32, per_second: u32) -> Self {
        Self {
            burst: f64::from(burst),
            per_second: f64::from(per_second),
            callers: Mutex::default(),
        }
    }

    /// Whether this caller may ask once more now. Where the table is full of busy callers, new ones may not.
    pub fn admits(&self, caller: &str) -> bool {
        let now = Instant::now();
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        if callers.len() >= MOST_CALLERS && !callers.contains_key(caller) {
            callers.retain(|_, bucket| self.refilled(bucket, now) < self.burst);
            if callers.len() >= MOST_CALLERS {
                return false;
            }
        }
        let bucket = callers.entry(caller.to_owned()).or_insert(Bucket {
            left: self.burst,
            at: now,
        });
        bucket.left = self.refilled(bucket, now);
        bucket.at = now;
        let admitted = bucket.left >= 1.0;
        if admitted {
            bucket.left -= 1.0;
        }
        admitted
    }

    fn refilled(&self, bucket: &Bucket, now: Instant) -> f64 {
        let passed = now.duration_since(bucket.at).as_secs_f64();
        (bucket.left + passed * self.per_second).min(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_then_a_rate_each_caller_for_itself() {
        let rate = Rate::new(3, 2);
        let admitted = |caller: &str, tries: usize| (0..tries).filter(|_| rate.admits(caller)).count();
        assert_eq!(admitted("one", 10), 3);
        assert_eq!(admitted("two", 10), 3);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(admitted("one", 10), 2);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(admitted("one", 10), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_bounded_and_forgets_the_quiet() {
        let rate = Rate::new(1, 1);
        for caller in 0..MOST_CALLERS {
            assert!(rate.admits(&caller.to_string()));
        }
        assert!(!rate.admits("new"));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(rate.admits("new"));
        assert_eq!(rate.callers.lock().unwrap().len(), 1);
    }
}
