//! The client's side, run in a pod as `weft-demo load` or `weft-load client`: a URL comes in, ticks go out.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use act::process::Failure;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{report::Tick, steady};

/// How connections are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// One connection, kept for every request.
    Kept,
    /// A new connection for every request.
    New,
    /// One request, whose body takes long.
    Download,
}

/// What load to make.
#[derive(Debug, Clone, clap::Args)]
pub struct LoadOptions {
    /// Where to: `http://host[:port]/path`
    pub url: String,
    /// How connections are used
    #[arg(long, value_enum, default_value_t = Mode::Kept)]
    pub mode: Mode,
    /// Clients at once
    #[arg(long, default_value_t = 1)]
    pub clients: u16,
    /// New connections a second, one request each, however long the answers take (in place of clients and pauses)
    #[arg(long, conflicts_with_all = ["mode", "clients", "pause"], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: Option<u32>,
    /// With a rate: so many requests may be under way, and a beat that finds no room waits for it; without this it fails
    #[arg(long, requires = "rate", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub room: Option<u32>,
    /// Rest between two requests of a client
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10ms")]
    pub pause: Duration,
    /// How long to go on; without it, until killed
    #[arg(long, value_parser = humantime::parse_duration)]
    pub time: Option<Duration>,
    /// How many requests in all; without it, until the time is over
    #[arg(long)]
    pub requests: Option<u64>,
    /// The longest that one request may take, or one piece of a download
    #[arg(long, value_parser = humantime::parse_duration, default_value = "10s")]
    pub patience: Duration,
    /// How often what happened is told
    #[arg(long, value_parser = humantime::parse_duration, default_value = "100ms")]
    pub tick: Duration,
}

/// Where a URL leads.
pub(super) struct Target {
    host: String,
    port: u16,
    path: String,
    /// Every request asks the server to close after its answer. Then no port of this side rests in TIME_WAIT, of which
    /// one address has but 28,000 towards one destination.
    close: bool,
}

/// Makes the load, and writes one line of JSON ([`Tick`]) to `out` for every tick, a tenth of a second by default.
/// Once it is stopped it begins no request, waits for those under way within their deadlines, and tells a last tick
/// that says so.
///
/// # Errors
/// When the URL cannot be understood or `out` not written.
pub async fn generate(
    options: LoadOptions,
    stop: &CancellationToken,
    mut out: impl std::io::Write,
) -> Result<(), Failure> {
    let target = Arc::new(Target {
        close: options.rate.is_some(),
        ..Target::parse(&options.url)?
    });
    let tick = Arc::new(Mutex::new(Tick::default()));
    let left = Arc::new(std::sync::atomic::AtomicU64::new(options.requests.unwrap_or(u64::MAX)));
    let mut clients = tokio::task::JoinSet::new();
    if options.rate.is_some() {
        clients.spawn(steady::connections(options.clone(), target, tick.clone(), stop.clone()));
    } else {
        for _ in 0..options.clients {
            let (options, target, tick) = (options.clone(), target.clone(), tick.clone());
            clients.spawn(client(options, target, tick, left.clone(), stop.clone()));
        }
    }
    let end = options.time.map(|time| tokio::time::Instant::now() + time);
    let mut interval = tokio::time::interval(options.tick);
    interval.tick().await;
    loop {
        let done = tokio::select! {
            _ = interval.tick() => false,
            () = async { while clients.join_next().await.is_some() {} } => true,
        };
        if end.is_some_and(|end| tokio::time::Instant::now() >= end) {
            stop.cancel();
        }
        let mut told = std::mem::take(&mut *tick.lock().unwrap_or_else(PoisonError::into_inner));
        told.at = unix_milliseconds();
        told.last = done;
        let line = serde_json::to_string(&told).unwrap_or_default();
        writeln!(out, "{line}")
            .and_then(|()| out.flush())
            .map_err(|error| Failure(format!("the load cannot be told of: {error}")))?;
        if done {
            return Ok(());
        }
    }
}

async fn client(
    options: LoadOptions,
    target: Arc<Target>,
    tick: Arc<Mutex<Tick>>,
    left: Arc<std::sync::atomic::AtomicU64>,
    stop: CancellationToken,
) {
    use std::sync::atomic::Ordering;
    let tell = |change: &dyn Fn(&mut Tick)| change(&mut tick.lock().unwrap_or_else(PoisonError::into_inner));
    let mut kept = None;
    while !stop.is_cancelled()
        && left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .is_ok()
    {
        if kept.as_ref().is_some_and(|sender: &SendRequest<_>| sender.is_closed()) {
            tell(&|tick| tick.closed += 1);
            kept = None;
        }
        let was_kept = kept.is_some();
        let sender = match kept.take() {
            Some(sender) => Ok(sender),
            None => within(options.patience, "connect", target.connect()).await,
        };
        let asked = tokio::time::Instant::now();
        let answer = match sender {
            Ok(sender) if options.mode == Mode::Download => {
                let whole = download(sender, &target, &options, &tick);
                stop.run_until_cancelled(whole).await.unwrap_or(Ok(None))
            }
            Ok(sender) => within(options.patience, "answer", exchange(sender, &target))
                .await
                .map(Some),
            Err(why) => Err(why),
        };
        match answer {
            Ok(answer) => {
                let word = answer.as_ref().map_or("", |(word, _)| word);
                tell(&|tick| tick.answered(word, was_kept, asked.elapsed()));
                kept = answer.map(|(_, sender)| sender).filter(|_| options.mode == Mode::Kept);
            }
            Err(why) => tell(&|tick| tick.failed(&why)),
        }
        if options.mode == Mode::Download {
            return;
        }
        let _ = stop.run_until_cancelled(tokio::time::sleep(options.pause)).await;
    }
}

/// One request on a connection; answers the body's first two words, and the connection.
pub(super) async fn exchange(
    mut sender: SendRequest<Empty<Bytes>>,
    target: &Target,
) -> Result<(String, SendRequest<Empty<Bytes>>), String> {
    let response = ask(&mut sender, target).await?;
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|error| format!("the answer was cut off: {}", root(&error)))?
        .to_bytes();
    let text = String::from_utf8_lossy(body.get(..200.min(body.len())).unwrap_or(&[])).into_owned();
    let words: Vec<_> = text.split_whitespace().take(2).collect();
    // Ready, or closed by the server in good order after its answer.
    let _ = timeout(Duration::from_millis(100), sender.ready()).await;
    Ok((words.join(" "), sender))
}

async fn download(
    mut sender: SendRequest<Empty<Bytes>>,
    target: &Target,
    options: &LoadOptions,
    tick: &Mutex<Tick>,
) -> Result<Option<(String, SendRequest<Empty<Bytes>>)>, String> {
    let response = within(options.patience, "answer", ask(&mut sender, target)).await?;
    let mut body = response.into_body();
    loop {
        let piece = timeout(options.patience, body.frame())
            .await
            .map_err(|_| "the download stood still".to_owned())?;
        let Some(frame) = piece else { return Ok(None) };
        let frame = frame.map_err(|error| format!("the download was cut off: {}", root(&error)))?;
        let length = frame.data_ref().map_or(0, |data| data.len() as u64);
        tick.lock().unwrap_or_else(PoisonError::into_inner).downloaded += length;
    }
}

async fn ask(sender: &mut SendRequest<Empty<Bytes>>, target: &Target) -> Result<Response<Incoming>, String> {
    let request = Request::get(&target.path)
        .header("host", &target.host)
        .header("connection", if target.close { "close" } else { "keep-alive" })
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| format!("no answer: {}", root(&error)))?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let reason = response
        .headers()
        .get("weft-reason")
        .and_then(|it| it.to_str().ok())
        .unwrap_or("");
    Err(format!("status {} {reason}", status.as_u16()).trim().to_owned())
}

pub(super) async fn within<T>(
    patience: Duration,
    what: &str,
    future: impl Future<Output = Result<T, String>>,
) -> Result<T, String> {
    timeout(patience, future)
        .await
        .unwrap_or_else(|_| Err(format!("no {what} within {}", humantime::format_duration(patience))))
}

/// The innermost cause, which says most.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

/// Milliseconds since 1970, as ticks are told.
pub fn unix_milliseconds() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

impl Target {
    pub(super) fn parse(url: &str) -> Result<Self, Failure> {
        let wrong = || Failure(format!("{url:?} is not of the form http://host[:port]/path"));
        let uri: http::Uri = url.parse().map_err(|_| wrong())?;
        if uri.scheme_str() != Some("http") {
            return Err(wrong());
        }
        Ok(Self {
            host: uri.host().ok_or_else(wrong)?.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
            path: uri.path_and_query().map_or("/", |it| it.as_str()).to_owned(),
            close: false,
        })
    }

    pub(super) async fn connect(&self) -> Result<SendRequest<Empty<Bytes>>, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port))
            .await
            .map_err(|error| format!("not connected: {error}"))?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
