//! The threads that carry traffic: each a current-thread runtime, so that a connection lives and dies on one
//! core (design 11). Comes in: a closure that makes a future, for a chosen worker. Never: work stealing.

use std::{fmt, future::Future, io, sync::Arc, thread, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::LocalSet,
    time::{Instant, timeout_at},
};
use tokio_util::task::TaskTracker;

use crate::courtesy::rest;

/// Work handed to a worker and not begun yet, by default; beyond it, handing over is refused.
const QUEUE: usize = 1024;

/// Begins a future among a worker's own: in its task itself, which is one allocation for each connection and not three.
type Job = Box<dyn FnOnce(&TaskTracker) + Send>;

/// A fixed number of threads, each with a current-thread runtime. Cheap to clone.
#[derive(Clone)]
pub struct Workers {
    seats: Arc<[Seat]>,
    queue: usize,
    stop: Arc<watch::Sender<Option<Instant>>>,
}

/// Why work was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Its queue is full.
    #[error("worker {0} has too many connections waiting to be begun")]
    Full(usize),
    /// It is stopping, or was never there.
    #[error("worker {0} is stopping")]
    Stopped(usize),
}

struct Seat {
    jobs: mpsc::Sender<Job>,
    /// Closed when the thread has ended.
    ended: watch::Receiver<()>,
}

impl Workers {
    /// Starts `count` threads (at least one), named `<name>-<index>`.
    ///
    /// # Errors
    /// When a thread or its runtime cannot be made.
    pub fn start(count: usize, name: &str) -> io::Result<Self> {
        Self::with_queue(count, name, QUEUE)
    }

    /// As [`Workers::start`], where `queue` pieces of work may wait for each.
    ///
    /// # Errors
    /// As [`Workers::start`].
    pub fn with_queue(count: usize, name: &str, queue: usize) -> io::Result<Self> {
        let (stop, stopping) = watch::channel(None);
        let seats = (0..count.max(1))
            .map(|index| Seat::start(format!("{name}-{index}"), queue, stopping.clone()))
            .collect::<io::Result<Arc<[Seat]>>>()?;
        Ok(Self {
            seats,
            queue,
            stop: Arc::new(stop),
        })
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.seats.len()
    }

    /// How much work may wait for each.
    pub fn queue(&self) -> usize {
        self.queue
    }

    /// Has the future that `make` makes run on one worker, to its end. The future need not be `Send`. `make` does nothing
    /// else: while it runs the worker does nothing else either.
    ///
    /// # Errors
    /// When the worker's queue is full, or it is stopping. `make` is dropped then, and with it what it owns.
    pub fn spawn<F, W>(&self, worker: usize, make: F) -> Result<(), NotTaken>
    where
        F: FnOnce() -> W + Send + 'static,
        W: Future<Output = ()> + 'static,
    {
        let seat = self.seats.get(worker).ok_or(NotTaken::Stopped(worker))?;
        if self.stop.borrow().is_some() {
            return Err(NotTaken::Stopped(worker));
        }
        let job: Job = Box::new(move |begun| drop(begun.spawn_local(make())));
        seat.jobs.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => NotTaken::Full(worker),
            mpsc::error::TrySendError::Closed(_) => NotTaken::Stopped(worker),
        })
    }

    /// Takes no more work, lets what runs end by itself within `grace`, drops the rest, and returns when every
    /// thread has ended.
    pub async fn stop(&self, grace: Duration) {
        self.stop.send_if_modified(|deadline| {
            let first = deadline.is_none();
            deadline.get_or_insert_with(|| Instant::now() + grace);
            first
        });
        for seat in self.seats.iter() {
            let mut ended = seat.ended.clone();
            while ended.changed().await.is_ok() {}
        }
    }
}

impl Seat {
    fn start(name: String, queue: usize, stopping: watch::Receiver<Option<Instant>>) -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel(queue.max(1));
        let (alive, ended) = watch::channel(());
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .on_thread_park(rest::before)
            .build()?;
        thread::Builder::new().name(name).spawn(move || {
            let tasks = LocalSet::new();
            tasks.block_on(&runtime, run(queue, stopping));
            drop(tasks);
            drop(runtime);
            drop(alive);
        })?;
        Ok(Self { jobs, ended })
    }
}

/// One worker's life: begins what it is given until told to stop, then waits for it until the deadline.
async fn run(mut queue: mpsc::Receiver<Job>, mut stopping: watch::Receiver<Option<Instant>>) {
    let begun = TaskTracker::new();
    let deadline = loop {
        tokio::select! {
            job = queue.recv() => match job {
                Some(job) => job(&begun),
                // every handle is gone: nobody will say stop, so what runs is served to its end
                None => break None,
            },
            stop = stopping.wait_for(Option::is_some) => match stop {
                Ok(deadline) => break *deadline,
                Err(_) => break None,
            },
        }
    };
    queue.close();
    while let Some(job) = queue.recv().await {
        job(&begun);
    }
    begun.close();
    match deadline {
        Some(deadline) => drop(timeout_at(deadline, begun.wait()).await),
        None => begun.wait().await,
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Workers({})", self.count())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, rc::Rc, sync::Mutex};

    use tokio::sync::oneshot;

    use super::*;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn work_runs_on_the_worker_it_was_given_to_and_may_be_unsendable() {
        let workers = Workers::start(3, "test").unwrap();
        let mut threads = HashSet::new();
        for worker in 0..3 {
            let mut names = HashSet::new();
            for _ in 0..4 {
                let (tell, told) = oneshot::channel();
                workers
                    .spawn(worker, move || async move {
                        let local = Rc::new(thread::current().name().map(str::to_owned));
                        tokio::task::yield_now().await;
                        tell.send(Rc::unwrap_or_clone(local)).unwrap();
                    })
                    .unwrap();
                names.insert(tokio::time::timeout(SOON, told).await.unwrap().unwrap().unwrap());
            }
            assert_eq!(names, HashSet::from([format!("test-{worker}")]));
            threads.extend(names);
        }
        assert_eq!(threads.len(), 3);
    }

    #[tokio::test]
    async fn before_a_worker_rests_those_it_told_something_may_answer() {
        let workers = Workers::start(1, "test").unwrap();
        let (tell, told) = oneshot::channel();
        workers
            .spawn(0, move || async move {
                rest::said(1);
                let before = rest::unanswered();
                tokio::time::sleep(Duration::from_millis(1)).await;
                tell.send((before, rest::unanswered())).unwrap();
            })
            .unwrap();
        assert_eq!(tokio::time::timeout(SOON, told).await.unwrap().unwrap(), (1, 0));
    }

    #[tokio::test]
    async fn stop_lets_running_work_end_and_takes_no_more() {
        let workers = Workers::start(1, "test").unwrap();
        let (go, gate) = oneshot::channel::<()>();
        let (tell, told) = oneshot::channel();
        workers
            .spawn(0, move || async move {
                let _ = gate.await;
                let _ = tell.send(());
            })
            .unwrap();
        let stopping = tokio::spawn({
            let workers = workers.clone();
            async move { workers.stop(SOON).await }
        });
        while workers.spawn(0, || async {}).is_ok() {
            tokio::task::yield_now().await;
        }
        assert_eq!(workers.spawn(0, || async {}), Err(NotTaken::Stopped(0)));
        go.send(()).unwrap();
        tokio::time::timeout(SOON, told).await.unwrap().unwrap();
        tokio::time::timeout(SOON, stopping).await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn work_that_outlives_the_grace_is_dropped() {
        let workers = Workers::start(2, "test").unwrap();
        let (held, dropped) = oneshot::channel::<()>();
        workers
            .spawn(1, move || async move {
                std::future::pending::<()>().await;
                drop(held);
            })
            .unwrap();
        tokio::time::timeout(SOON, workers.stop(Duration::from_millis(10)))
            .await
            .unwrap();
        assert!(dropped.await.is_err());
    }

    #[tokio::test]
    async fn a_full_worker_refuses_and_drops_what_it_was_given() {
        let workers = Workers::start(1, "test").unwrap();
        let (block, blocked) = std::sync::mpsc::channel::<()>();
        let (tell, told) = oneshot::channel();
        let blocked = Mutex::new(blocked);
        workers
            .spawn(0, move || async move {
                tell.send(()).unwrap();
                let _ = blocked.lock().unwrap().recv();
            })
            .unwrap();
        told.await.unwrap();
        let refused = (0..=QUEUE).find_map(|_| workers.spawn(0, || async {}).err());
        assert_eq!(refused, Some(NotTaken::Full(0)));
        drop(block);
    }

    #[tokio::test]
    async fn an_unknown_worker_takes_nothing() {
        let workers = Workers::start(1, "test").unwrap();
        assert_eq!(workers.spawn(1, || async {}), Err(NotTaken::Stopped(1)));
    }
}
