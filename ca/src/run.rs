//! The life of the process: open everything, serve, drain.

use std::{
    net::TcpListener,
    sync::Arc,
    time::{Duration, SystemTime},
};

use act::{
    admin::{Admin, Part},
    config::Reader,
    net::Acceptor,
    process::{Failure, Readiness, shutdown},
    telemetry::{Logs, Metrics},
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::{
    authority::SigningAuthority,
    host::Host,
    issuers::Issuers,
    listen,
    options::Options,
    rate::Rate,
    service::{Service, system_clock},
    state::State,
};

/// How often certificates of our own are looked at.
const UPKEEP: Duration = Duration::from_secs(60);

/// Serves until asked to stop, then drains.
///
/// # Errors
/// One plain sentence when something cannot be had: an address, the state, the issuers.
pub async fn run(options: Options, reader: Reader, logs: Logs) -> Result<(), Failure> {
    let (stop, end) = (shutdown()?, CancellationToken::new());
    let metrics = Metrics::install();
    let acceptor = bind(&options)?;
    let authority = open_authority(&options)?;
    let issuers = Issuers::read(&options.issuers).map_err(|error| Failure(format!("--issuers: {error}")))?;
    let host = Arc::new(Host::new(options.name.clone(), authority.clone(), SystemTime::now())?);
    let tls = host.tls()?;
    let service = Arc::new(Service {
        issuers,
        reader: reader.clone(),
        authority: authority.clone(),
        rate: Rate::new(options.caller_burst, options.caller_rate),
        terms: options.terms(),
        clock: system_clock(),
    });
    let readiness = Readiness::new();
    tokio::spawn(gates(readiness.clone(), reader.clone(), stop.clone()));
    let name = options.name.first().map(|name| name.to_str().into_owned());
    let admin = Admin {
        process: ("ca", name.unwrap_or_default()),
        reader: Some(reader),
        certificates: None,
        metrics,
        logs: Some(logs),
        readiness,
        parts: vec![("authority", dump(authority.clone()))],
    };
    admin.serve(&options.admin, &end).await?;
    tokio::spawn(upkeep(authority, host, end.clone()));
    tracing::info!(listen = %options.listen, trust_domain = options.source.trust_domain, "serving");
    listen::serve(acceptor, tls, service, options.bounds(), stop, options.drain).await;
    end.cancel();
    Ok(())
}

fn bind(options: &Options) -> Result<Acceptor, Failure> {
    let address = options.listen;
    TcpListener::bind(address).and_then(Acceptor::new).map_err(|error| {
        Failure(format!(
            "{address} cannot be listened on ({error}); choose another address with --listen"
        ))
    })
}

fn open_authority(options: &Options) -> Result<Arc<SigningAuthority>, Failure> {
    State::open(&options.state)
        .and_then(|state| {
            SigningAuthority::open(
                state,
                &options.given.files(),
                &options.source.trust_domain,
                SystemTime::now(),
            )
        })
        .map(Arc::new)
        .map_err(|error| Failure(error.to_string()))
}

/// Ready from the first complete configuration until asked to stop.
async fn gates(readiness: Readiness, mut reader: Reader, stop: CancellationToken) {
    let (configured, serving) = (
        readiness.gate("its configuration"),
        readiness.gate("nothing: it is stopping"),
    );
    serving.set(true);
    while !reader.load().complete {
        reader.changed().await;
    }
    configured.set(true);
    stop.cancelled().await;
    serving.set(false);
}

/// Renews what we present and sign with, long before it ends.
async fn upkeep(authority: Arc<SigningAuthority>, host: Arc<Host>, end: CancellationToken) {
    loop {
        let now = SystemTime::now();
        if let Err(error) = authority.renew(now) {
            tracing::error!(%error, "no new intermediate");
        }
        if let Err(error) = host.renew(now) {
            tracing::error!(error, "no new server certificate");
        }
        let ends = authority
            .ends()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        metrics::gauge!("weft_ca_intermediate_expiration_timestamp_seconds").set(ends.as_secs_f64());
        if end.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_none() {
            return;
        }
    }
}

fn dump(authority: Arc<SigningAuthority>) -> Part {
    Arc::new(move || {
        json!({
            "roots": act::certs::pem(authority.roots()),
            "intermediate_ends": humantime::format_rfc3339_seconds(authority.ends()).to_string(),
        })
    })
}
