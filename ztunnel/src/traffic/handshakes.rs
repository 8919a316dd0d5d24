//! Connections whose peers have not proven who they are: so many at once, and the oldest makes room for the newest. Who
//! belongs to the mesh needs milliseconds; whoever says nothing for longer would else keep all others out.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use arc_swap::ArcSwapOption;
use tokio_util::sync::CancellationToken;

/// Those of one pod, on all workers. Cheap to clone. Nobody waits for a lock: each has a place of its own, which it takes
/// and leaves by itself.
#[derive(Debug, Clone)]
pub struct Handshakes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    begun: AtomicU64,
    /// Made with the first: most pods of a node are reached by few.
    places: OnceLock<Box<[Place]>>,
}

type Place = ArcSwapOption<Waiting>;

#[derive(Debug)]
struct Waiting {
    /// How many began before it.
    turn: u64,
    ousted: CancellationToken,
}

/// One of them, until it is dropped.
#[derive(Debug)]
pub(super) struct Handshake {
    waiting: Arc<Waiting>,
    place: usize,
    shared: Arc<Shared>,
}

impl Handshakes {
    /// Never more than `most`, and at least one.
    pub fn new(most: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                most: most.max(1),
                begun: AtomicU64::new(0),
                places: OnceLock::new(),
            }),
        }
    }

    /// One more, in place of the oldest where there are too many.
    pub(super) fn begin(&self) -> Handshake {
        let waiting = Arc::new(Waiting {
            turn: self.shared.begun.fetch_add(1, Relaxed),
            ousted: CancellationToken::new(),
        });
        Handshake {
            place: self.shared.free(&waiting).unwrap_or_else(|| self.shared.oust(&waiting)),
            waiting,
            shared: self.shared.clone(),
        }
    }
}

impl Shared {
    fn places(&self) -> &[Place] {
        self.places
            .get_or_init(|| (0..self.most).map(|_| Place::default()).collect())
    }

    /// Takes a free place, if there is one. Turns begin to look at different ones, so that few meet.
    fn free(&self, waiting: &Arc<Waiting>) -> Option<usize> {
        let places = self.places();
        let first = usize::try_from(waiting.turn % self.most as u64).unwrap_or_default();
        let (before, after) = places.split_at_checked(first)?;
        let mut there = after.iter().zip(first..).chain(before.iter().zip(0..));
        let taken = |place: &Place| {
            let nobody = None::<Arc<Waiting>>;
            place.load().is_none() && place.compare_and_swap(&nobody, Some(waiting.clone())).is_none()
        };
        there.find(|(place, _)| taken(place)).map(|(_, at)| at)
    }

    /// Takes the place of the oldest; one that was left meanwhile is older than any.
    fn oust(&self, waiting: &Arc<Waiting>) -> usize {
        let turn = |waiting: &Option<Arc<Waiting>>| waiting.as_ref().map(|waiting| waiting.turn);
        loop {
            let ages = self.places().iter().map(|place| turn(&place.load()));
            let Some((at, age)) = ages.enumerate().min_by_key(|(_, age)| *age) else {
                return 0;
            };
            let Some(place) = self.places().get(at) else {
                return 0;
            };
            let oldest = place.load_full();
            // Else another worker was quicker, and it is another's turn.
            let is_it = turn(&oldest) == age && {
                let before = place.compare_and_swap(&oldest, Some(waiting.clone()));
                turn(&before) == age
            };
            if is_it {
                if let Some(oldest) = oldest {
                    oldest.ousted.cancel();
                }
                return at;
            }
        }
    }
}

impl Handshake {
    /// Resolves when it has to make room.
    pub(super) async fn ousted(&self) {
        self.waiting.ousted.cancelled().await;
    }
}

impl Drop for Handshake {
    fn drop(&mut self) {
        // Another's already where it has made room.
        if let Some(place) = self.shared.places().get(self.place) {
            place.compare_and_swap(&self.waiting, None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Handshake {
        fn is_ousted(&self) -> bool {
            self.waiting.ousted.is_cancelled()
        }
    }

    fn waiting(handshakes: &Handshakes) -> usize {
        let places = handshakes.shared.places().iter();
        places.filter(|place| place.load().is_some()).count()
    }

    #[test]
    fn the_oldest_handshake_makes_room_for_the_newest() {
        let handshakes = Handshakes::new(2);
        let (first, second) = (handshakes.begin(), handshakes.begin());
        assert!(!first.is_ousted());
        let third = handshakes.begin();
        assert!(first.is_ousted() && !second.is_ousted());
        drop((first, second));
        let fourth = handshakes.begin();
        assert!(!third.is_ousted(), "a place that was left is free");
        drop((third, fourth));
        assert_eq!(waiting(&handshakes), 0);
    }

    #[test]
    fn one_count_of_handshakes_holds_for_all_workers_of_a_pod() {
        let handshakes = Handshakes::new(8);
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let handshakes = handshakes.clone();
                std::thread::spawn(move || {
                    let mut begun = Vec::new();
                    for turn in 0..1000 {
                        begun.push(handshakes.begin());
                        if turn % 3 == 0 {
                            begun.swap_remove(begun.len() / 2);
                        }
                        assert!(waiting(&handshakes) <= 8);
                    }
                    begun
                })
            })
            .collect();
        let begun: Vec<_> = workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect();
        let live = begun.iter().filter(|handshake| !handshake.is_ousted()).count();
        assert_eq!(live, waiting(&handshakes), "whoever has no place was told so");
        assert!((1..=8).contains(&live));
        let newest = handshakes.begin();
        assert!(!newest.is_ousted());
        drop((begun, newest));
        assert_eq!(waiting(&handshakes), 0);
    }
}
