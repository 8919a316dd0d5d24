//! One kind, watched for as long as somebody listens.
//!
//! ```text
//! list (streamed; in pages where the server cannot) -> watch from there -> its end: watch again from there
//!                     ^---------------- what we want to go on from is too long ago ----------------'
//! ```
//!
//! Written against the wire and not with kube's `watcher`, because that hides what an operator must know (whether
//! the server was heard), loses an object that one struct cannot read, and opens an ended watch again at once.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use decide::model::ObjectRef;
use serde_json::Value;
use tokio::{sync::mpsc, time::Instant};

use super::{
    backoff::Backoff,
    read::{Read, read},
    scope::Kind,
    trouble::Trouble,
    wire::{Line, Target, resource_version},
};

/// First and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(8));
/// First and longest wait for a kind to be served.
const APPEAR: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));
/// After so many refusals to go on from where we are, we list anew: the server may have lost what it knew.
const MOST_REFUSALS: u32 = 5;
/// A watch that ends sooner than this has failed.
const SHORT: Duration = Duration::from_secs(1);

/// What a watch tells.
#[derive(Debug)]
pub(super) enum News {
    /// The server answers.
    Heard,
    /// From now until [`News::Listed`] everything there is told; what is not told is gone.
    Listing,
    /// An object, or what is wrong with it.
    Put(Box<Read>),
    /// An object is gone.
    Gone(ObjectRef),
    /// The list is complete.
    Listed,
    /// The kind is not served, so there is none of it.
    NotServed,
    /// Something is wrong; the watch goes on trying.
    Trouble(Trouble),
}

/// News, of which kind, and when it came.
#[derive(Debug)]
pub(super) struct Told {
    /// Index among the kinds of the scope.
    pub(super) kind: usize,
    pub(super) at: Instant,
    pub(super) news: News,
}

/// Nobody listens any more, and so nothing goes on.
#[derive(Debug)]
struct Unheard;

/// Why one watch ended.
enum End {
    /// As watches end.
    Done,
    Broken(Trouble),
    Unheard,
}

/// One kind, watched.
pub(super) struct Watch {
    client: kube::Client,
    target: Target,
    index: usize,
    tell: mpsc::Sender<Told>,
    /// From where to go on; empty: from a new list.
    version: String,
    /// Whether the server streams lists, as far as we know.
    streams: bool,
    /// Whether the last list is complete.
    listed: bool,
    /// Whether the kind was served when last asked for.
    served: bool,
    /// How often in a row the server refused to go on from there.
    refusals: u32,
}

impl Watch {
    pub(super) fn new(client: kube::Client, kind: &'static Kind, index: usize, tell: mpsc::Sender<Told>) -> Self {
        let target = Target {
            kind,
            version: kind.versions.first().copied().unwrap_or_default(),
            fields: None,
        };
        Self {
            client,
            target,
            index,
            tell,
            version: String::new(),
            streams: true,
            listed: false,
            served: false,
            refusals: 0,
        }
    }

    /// Only objects with these fields.
    pub(super) fn only(mut self, fields: Option<String>) -> Self {
        self.target.fields = fields;
        self
    }

    /// Watches until nobody listens.
    pub(super) async fn run(mut self) {
        let mut retry = Backoff::new(RETRY.0, RETRY.1);
        let mut appear = Backoff::new(APPEAR.0, APPEAR.1);
        loop {
            let began = Instant::now();
            let end = self.once().await;
            if began.elapsed() >= SHORT {
                retry.reset();
            }
            let wait = match end {
                End::Unheard => return,
                End::Done if began.elapsed() >= SHORT => Duration::ZERO,
                End::Done => retry.next(fastrand::f64()),
                End::Broken(Trouble::NotServed) if self.next_version() => Duration::ZERO,
                End::Broken(Trouble::NotServed) if self.target.kind.may_be_missing() => {
                    if self.not_served().await.is_err() {
                        return;
                    }
                    appear.next(fastrand::f64())
                }
                End::Broken(Trouble::NoStreaming(_)) if self.streams && self.version.is_empty() => {
                    self.streams = false;
                    Duration::ZERO
                }
                End::Broken(trouble) => {
                    if self.broken(trouble).await.is_err() {
                        return;
                    }
                    retry.next(fastrand::f64())
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// Lists if need be, and watches until the watch ends.
    async fn once(&mut self) -> End {
        let end = if self.version.is_empty() && !self.streams {
            self.pages().await
        } else {
            Ok(())
        };
        let end = match end {
            Ok(()) => self.stream().await,
            Err(end) => Err(end),
        };
        match end {
            Ok(()) => End::Done,
            Err(end) => end,
        }
    }

    /// The list, page by page.
    async fn pages(&mut self) -> Result<(), End> {
        let mut page = self.target.list(&self.client, None).await?;
        self.heard().await?;
        self.tell(News::Listing).await?;
        loop {
            for object in page.objects {
                self.put(object).await?;
            }
            match page.next {
                Some(next) => page = self.target.list(&self.client, Some(next)).await?,
                None => break,
            }
        }
        self.version = page.version;
        Ok(self.tell(News::Listed).await?)
    }

    async fn stream(&mut self) -> Result<(), End> {
        let mut lines = self.target.watch(&self.client, &self.version).await?;
        self.heard().await?;
        self.listed = !self.version.is_empty();
        if !self.listed {
            self.tell(News::Listing).await?;
        }
        while let Some(line) = lines.next().await? {
            self.seen();
            let line = self.target.line(&line)?;
            self.line(line).await?;
        }
        Ok(())
    }

    async fn line(&mut self, line: Line) -> Result<(), Unheard> {
        match line {
            Line::Put(object) => {
                self.advance(resource_version(&object));
                self.put(object).await
            }
            Line::Gone(object) => {
                self.advance(resource_version(&object));
                let read = read(self.target.kind, object);
                self.tell(News::Gone(read.object().clone())).await
            }
            Line::Bookmark { version, ends_list } => {
                if ends_list && !self.listed {
                    self.listed = true;
                    self.advance(version);
                    return self.tell(News::Listed).await;
                }
                self.advance(version);
                Ok(())
            }
        }
    }

    /// How far we have come. Objects of a list come in no order, so within one it says nothing.
    fn advance(&mut self, version: String) {
        if self.listed && !version.is_empty() {
            self.version = version;
        }
    }

    async fn put(&self, object: Value) -> Result<(), Unheard> {
        let read = read(self.target.kind, object);
        self.tell(News::Put(Box::new(read))).await
    }

    /// The server answered as it should.
    async fn heard(&mut self) -> Result<(), Unheard> {
        self.served = true;
        self.refusals = 0;
        self.connected(true);
        self.seen();
        self.tell(News::Heard).await
    }

    /// The next version to try, if there is one.
    fn next_version(&mut self) -> bool {
        self.version.clear();
        let versions = self.target.kind.versions;
        let now = versions.iter().position(|version| *version == self.target.version);
        let next = now.and_then(|now| versions.get(now + 1));
        self.target.version = next.or_else(|| versions.first()).copied().unwrap_or_default();
        next.is_some()
    }

    /// A kind that was served and is not is looked at twice before what is known of it is gone.
    async fn not_served(&mut self) -> Result<(), Unheard> {
        self.connected(true);
        self.seen();
        if std::mem::take(&mut self.served) {
            return Ok(());
        }
        self.tell(News::NotServed).await
    }

    async fn broken(&mut self, trouble: Trouble) -> Result<(), Unheard> {
        metrics::counter!("weft_config_watch_failures_total",
            "kind" => self.target.kind.plural, "reason" => trouble.label())
        .increment(1);
        match trouble {
            Trouble::Expired => {
                self.version.clear();
                return Ok(());
            }
            Trouble::Failing(..) | Trouble::NoStreaming(_) => {
                self.refusals = self.refusals.saturating_add(1);
                if self.refusals.is_multiple_of(MOST_REFUSALS) {
                    self.version.clear();
                }
            }
            _ => {}
        }
        self.connected(false);
        self.tell(News::Trouble(trouble)).await
    }

    async fn tell(&self, news: News) -> Result<(), Unheard> {
        let told = Told {
            kind: self.index,
            at: Instant::now(),
            news,
        };
        self.tell.send(told).await.map_err(|_| Unheard)
    }

    fn connected(&self, connected: bool) {
        metrics::gauge!("weft_config_connected", "kind" => self.target.kind.plural).set(f64::from(u8::from(connected)));
    }

    fn seen(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        metrics::gauge!("weft_config_last_heard_timestamp_seconds", "kind" => self.target.kind.plural)
            .set(now.unwrap_or_default().as_secs_f64());
    }
}

impl From<Trouble> for End {
    fn from(trouble: Trouble) -> Self {
        Self::Broken(trouble)
    }
}

impl From<Unheard> for End {
    fn from(_: Unheard) -> Self {
        Self::Unheard
    }
}
