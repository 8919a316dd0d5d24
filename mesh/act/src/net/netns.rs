//! A network namespace, held by its file descriptor.

use std::{
    cell::{Cell, OnceCell, RefCell},
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
    task::{Poll, Waker},
};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// A network namespace. Sockets made by [`Netns::run`] live in it whatever thread polls them later.
#[derive(Debug, Clone)]
pub struct Netns {
    target: Option<Arc<OwnedFd>>,
}

thread_local! {
    /// The namespace this thread was born in, opened when it is left for the first time.
    static HOME: OnceCell<File> = const { OnceCell::new() };
    static STRANDED: Cell<bool> = const { Cell::new(false) };
    static WAITING: RefCell<Vec<Waker>> = const { RefCell::new(Vec::new()) };
}

impl Netns {
    /// Holds the namespace behind this descriptor.
    pub fn new(target: OwnedFd) -> Self {
        Self {
            target: Some(Arc::new(target)),
        }
    }

    /// The namespace this process runs in: nothing is entered.
    pub fn own() -> Self {
        Self { target: None }
    }

    /// Runs `make` with this thread inside the namespace, and comes back. `make` must not await or block.
    ///
    /// If coming back fails, this thread is *stranded*: from then on every call on it fails, and
    /// [`stranded`] resolves, so that the worker ends instead of opening sockets in a pod it does not mean.
    ///
    /// # Errors
    /// When the namespace cannot be entered or left, or `make` fails.
    pub fn run<T>(&self, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        if STRANDED.get() {
            return Err(io::Error::other("this thread is stranded in another network namespace"));
        }
        let Some(target) = &self.target else { return make() };
        HOME.with(|home| {
            let home = match home.get() {
                Some(home) => home,
                None => {
                    let here = File::open("/proc/thread-self/ns/net")
                        .map_err(|error| named("cannot open the thread's own network namespace", &error))?;
                    home.get_or_init(|| here)
                }
            };
            enter(target).map_err(|error| {
                named(
                    "cannot enter the pod's network namespace; CAP_SYS_ADMIN is needed",
                    &error,
                )
            })?;
            let made = make();
            enter(home).map_err(|error| {
                strand();
                named("cannot come back from the pod's network namespace", &error)
            })?;
            made
        })
    }
}

/// Resolves once the current thread could not come back from a namespace; a worker selects on it and ends.
pub async fn stranded() {
    std::future::poll_fn(|context| {
        if STRANDED.get() {
            return Poll::Ready(());
        }
        WAITING.with_borrow_mut(|waiting| {
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                // A waker is stale once its task moved on; only the newest few can still be somebody's.
                waiting.truncate(15);
                waiting.insert(0, context.waker().clone());
            }
        });
        Poll::Pending
    })
    .await;
}

fn enter(namespace: &impl AsFd) -> io::Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).map_err(io::Error::from)
}

fn strand() {
    STRANDED.set(true);
    WAITING.with_borrow_mut(|waiting| waiting.drain(..).for_each(Waker::wake));
}

fn named(what: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;

    use super::*;

    #[test]
    fn own_namespace_is_not_entered() {
        assert_eq!(Netns::own().run(|| Ok(7)).expect("no system call is made"), 7);
    }

    #[test]
    fn a_descriptor_that_is_no_namespace_is_refused_and_the_thread_goes_on() {
        let file: OwnedFd = File::open("/dev/null").expect("exists").into();
        let made = Netns::new(file).run(|| -> io::Result<()> { panic!("must not run outside the namespace") });
        assert!(made.expect_err("no namespace").to_string().contains("cannot enter"));
        assert_eq!(Netns::own().run(|| Ok(7)).expect("not stranded"), 7);
    }

    #[tokio::test]
    async fn a_stranded_thread_makes_nothing_more_and_says_so() {
        let waiting = tokio::spawn(stranded());
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        strand();
        waiting.await.expect("resolves");
        assert!(Netns::own().run(|| Ok(())).is_err());
    }
}
