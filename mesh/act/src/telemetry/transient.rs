//! Gauges of things that come and go: a series each, which leaves `/metrics` with its thing. The exporter's own gauges
//! stay for ever.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

static FAMILIES: Mutex<Vec<&'static Transient>> = Mutex::new(Vec::new());

/// A family of gauges with one label. One of each name in a process, as a `static`.
pub struct Transient {
    name: &'static str,
    label: &'static str,
    what: &'static str,
    listed: AtomicBool,
    series: Mutex<Series>,
}

#[derive(Default)]
struct Series {
    /// By the label's value: whose it is, and its own value.
    values: BTreeMap<String, (u64, f64)>,
    made: u64,
}

/// One series, which leaves when this is dropped.
#[derive(Debug)]
pub struct Gauge {
    family: &'static Transient,
    value: String,
    number: u64,
}

impl Transient {
    /// A family without series: its name, the name of its label, and what it means.
    pub const fn new(name: &'static str, label: &'static str, what: &'static str) -> Self {
        Self {
            name,
            label,
            what,
            listed: AtomicBool::new(false),
            series: Mutex::new(Series {
                values: BTreeMap::new(),
                made: 0,
            }),
        }
    }

    /// The series of this value of the label; it is told once it was set. Of two with the same value the one that was
    /// set last counts.
    pub fn of(&'static self, value: String) -> Gauge {
        if !self.listed.swap(true, Relaxed) {
            lock(&FAMILIES).push(self);
        }
        let mut series = lock(&self.series);
        series.made += 1;
        Gauge {
            family: self,
            value,
            number: series.made,
        }
    }

    fn render(&self, out: &mut String) {
        let series = lock(&self.series);
        if series.values.is_empty() {
            return;
        }
        let Self { name, label, what, .. } = self;
        // Writing to a string cannot fail.
        let _ = write!(out, "# HELP {name} {what}\n# TYPE {name} gauge\n");
        for (value, (_, gauge)) in &series.values {
            let value = value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
            let _ = writeln!(out, "{name}{{{label}=\"{value}\"}} {gauge}");
        }
        out.push('\n');
    }
}

impl Gauge {
    /// What it shows from now on.
    pub fn set(&self, gauge: f64) {
        let mut series = lock(&self.family.series);
        series.values.insert(self.value.clone(), (self.number, gauge));
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        let mut series = lock(&self.family.series);
        if series
            .values
            .get(&self.value)
            .is_some_and(|(number, _)| *number == self.number)
        {
            series.values.remove(&self.value);
        }
    }
}

impl std::fmt::Debug for Transient {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Transient").field(&self.name).finish()
    }
}

/// Every family, in Prometheus' text format.
pub(super) fn render(out: &mut String) {
    for family in lock(&FAMILIES).iter() {
        family.render(out);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_leaves_with_its_thing_and_a_later_one_of_the_same_name_stays() {
        static FAMILY: Transient = Transient::new("weft_test_of_transients", "who", "For this test");
        let text = || {
            let mut out = String::new();
            render(&mut out);
            out
        };
        let first = FAMILY.of("a \"b\"\\\n".to_owned());
        assert!(!text().contains("weft_test_of_transients"), "not before it is set");
        first.set(1.5);
        let line = "weft_test_of_transients{who=\"a \\\"b\\\"\\\\\\n\"}";
        assert!(text().contains(&format!("{line} 1.5\n")), "{}", text());
        let second = FAMILY.of("a \"b\"\\\n".to_owned());
        second.set(2.0);
        drop(first);
        assert!(text().contains(&format!("{line} 2\n")), "{}", text());
        drop(second);
        assert!(!text().contains("weft_test_of_transients"), "{}", text());
    }
}
