//! How many connections live towards each address, for the power of two choices (design 14).

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Live connections by destination address.
#[derive(Debug, Clone, Default)]
pub(super) struct Loads {
    counts: Arc<Mutex<HashMap<IpAddr, u32>>>,
}

/// One of them, until dropped.
#[derive(Debug)]
pub(super) struct Load {
    loads: Loads,
    address: IpAddr,
}

impl Loads {
    /// Live connections towards an address.
    pub(super) fn of(&self, address: IpAddr) -> u32 {
        self.lock().get(&address).copied().unwrap_or(0)
    }

    /// One more.
    pub(super) fn add(&self, address: IpAddr) -> Load {
        *self.lock().entry(address).or_insert(0) += 1;
        Load {
            loads: self.clone(),
            address,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let mut counts = self.loads.lock();
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_rise_and_vanish() {
        let loads = Loads::default();
        let address: IpAddr = "10.0.0.1".parse().expect("an address");
        let (first, second) = (loads.add(address), loads.add(address));
        assert_eq!(loads.of(address), 2);
        drop(first);
        assert_eq!(loads.of(address), 1);
        drop(second);
        assert!(loads.lock().is_empty());
    }
}
