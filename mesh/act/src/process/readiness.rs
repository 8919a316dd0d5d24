//! Whether a process is ready: all of its gates are open.

use std::sync::{Arc, Mutex, PoisonError};

/// The gates of a process. Ready when every one is open; a process without gates is ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    gates: Arc<Mutex<Vec<(&'static str, bool)>>>,
}

/// One condition of readiness.
#[derive(Debug, Clone)]
pub struct Gate {
    readiness: Readiness,
    index: usize,
}

impl Readiness {
    /// No gates yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// A new gate, closed. `waits_for` completes the sentence "waits for …".
    pub fn gate(&self, waits_for: &'static str) -> Gate {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.push((waits_for, false));
        Gate {
            readiness: self.clone(),
            index: gates.len() - 1,
        }
    }

    /// What is still waited for; empty when ready.
    pub fn waits_for(&self) -> Vec<&'static str> {
        let gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        gates.iter().filter(|(_, open)| !open).map(|(name, _)| *name).collect()
    }
}

impl Gate {
    /// Opens or closes it.
    pub fn set(&self, open: bool) {
        let mut gates = self.readiness.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get_mut(self.index) {
            gate.1 = open;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_means_every_gate_is_open() {
        let readiness = Readiness::new();
        assert!(readiness.waits_for().is_empty());
        let (config, pods) = (readiness.gate("its configuration"), readiness.gate("its pods"));
        config.set(true);
        assert_eq!(readiness.waits_for(), ["its pods"]);
        pods.set(true);
        assert!(readiness.waits_for().is_empty());
        config.set(false);
        assert_eq!(readiness.waits_for(), ["its configuration"]);
    }
}
