//! Where a pod's queries arrive over UDP: two sockets, one for each family, open while there are names. Shared by what
//! answers from them, one session after another, and by the hand-over to a younger ztunnel.

use std::{
    io,
    net::UdpSocket,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use act::net::Netns;
use decide::model::ports::DNS;
use socket2::Domain;

use super::sockets::receiving;

/// A pod's inbox. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Inbox {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Open for as long as somebody answers from them: one that nobody reads would lose what the kernel puts into it.
    open: Weak<Vec<UdpSocket>>,
    /// Handed over, and not needed yet.
    handed: Option<Arc<Vec<UdpSocket>>>,
}

impl Inbox {
    /// Sockets were handed over by who answered before, and answers still. They are used unless others are open.
    pub fn take_over(&self, sockets: Vec<UdpSocket>) {
        let mut shared = self.lock();
        if !sockets.is_empty() && shared.open.strong_count() == 0 {
            shared.handed = Some(Arc::new(sockets));
        }
    }

    /// The same sockets once more, to be handed over.
    ///
    /// # Errors
    /// When descriptors run out.
    pub fn copies(&self) -> io::Result<Vec<UdpSocket>> {
        let shared = self.lock();
        let sockets = shared.open.upgrade().or_else(|| shared.handed.clone());
        sockets
            .iter()
            .flat_map(|sockets| sockets.iter())
            .map(UdpSocket::try_clone)
            .collect()
    }

    /// No name is asked for: what was handed over is not needed.
    pub(super) fn close(&self) {
        self.lock().handed = None;
    }

    /// The sockets: those that are open, or were handed over; else new ones.
    ///
    /// # Errors
    /// As `bind(2)`, of IPv4: a host without IPv6 asks nothing over it.
    pub(super) fn open(&self, netns: &Netns) -> io::Result<Arc<Vec<UdpSocket>>> {
        let mut shared = self.lock();
        let sockets = match shared.open.upgrade().or_else(|| shared.handed.take()) {
            Some(sockets) => sockets,
            None => {
                let v4 = receiving(netns, Domain::IPV4, DNS)?;
                let v6 = receiving(netns, Domain::IPV6, DNS).ok();
                Arc::new(std::iter::once(v4).chain(v6).collect())
            }
        };
        shared.open = Arc::downgrade(&sockets);
        Ok(sockets)
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
