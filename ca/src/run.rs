//! The life of the process: open everything, serve, drain.

use std::{
    net::TcpListener,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use act::{
    admin::{Admin, Part},
    config::{Reader, kubernetes},
    net::Acceptor,
    process::{Failure, Gate, Readiness, shutdown},
    telemetry::{Logs, Metrics},
};
use kube::Client;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    authenticate::Authentication,
    authority::SigningAuthority,
    bundle::Bundle,
    host::Host,
    issuers::Issuers,
    listen,
    lookup::Lookup,
    options::Options,
    rate::Rate,
    review::Reviews,
    service::{Service, system_clock},
    store::{Directory, SecretStore, StateError, Store},
};

/// How often certificates of our own are looked at, and those that other replicas made.
const UPKEEP: Duration = Duration::from_secs(60);
/// Between two attempts to load our keys while the API server does not give them.
const RETRY: Duration = Duration::from_secs(2);

/// Serves until asked to stop, then drains.
///
/// # Errors
/// One plain sentence when something cannot be had: an address, the state, the issuers.
pub async fn run(options: Options, reader: Reader, logs: Logs) -> Result<(), Failure> {
    let (stop, end) = (shutdown()?, CancellationToken::new());
    let metrics = Metrics::install();
    describe();
    let acceptor = bind(&options)?;
    let client = client(&options).await?;
    let authentication = authentication(&options, client.as_ref())?;
    let readiness = Readiness::new();
    let keys = readiness.gate("its keys");
    tokio::spawn(gates(readiness.clone(), reader.clone(), stop.clone()));
    let known = Arc::new(OnceLock::new());
    let name = options.name.first().map(|name| name.to_str().into_owned());
    let admin = Admin {
        process: ("ca", name.unwrap_or_default()),
        reader: Some(reader.clone()),
        certificates: None,
        metrics,
        logs: Some(logs),
        readiness,
        prover: None,
        parts: vec![("authority", dump(known.clone()))],
    };
    admin.serve(&options.admin, &end).await?;
    let opened = stop.run_until_cancelled(open_authority(&options, client.clone(), &keys));
    let Some(authority) = opened.await else {
        return Ok(());
    };
    let authority = authority?;
    drop(known.set(authority.clone()));
    let host = Arc::new(Host::new(options.name.clone(), authority.clone(), SystemTime::now())?);
    let tls = host.tls()?;
    let cluster = client.filter(|_| options.is_in_cluster());
    let service = Arc::new(Service {
        authentication,
        reader: reader.clone(),
        lookup: cluster.clone().map(|client| Lookup::new(Box::new(client))),
        authority: authority.clone(),
        rate: Rate::new(options.caller_burst, options.caller_rate),
        terms: options.terms(),
        clock: system_clock(),
    });
    if let Some(client) = cluster {
        let bundle = Bundle {
            client,
            name: options.root_configmap.clone(),
            home: options.source.root_namespace.as_str().into(),
            authority: authority.clone(),
        };
        let end = end.clone();
        tokio::spawn(async move { end.run_until_cancelled(bundle.keep(reader)).await });
    }
    tokio::spawn(upkeep(authority, host, end.clone()));
    tracing::info!(listen = %options.listen, trust_domain = options.source.trust_domain, "serving");
    listen::serve(acceptor, tls, service, options.bounds(), stop, options.drain).await;
    end.cancel();
    Ok(())
}

fn describe() {
    for (name, what) in [
        (
            "weft_ca_decisions_total",
            "Requests for a certificate, by decision and reason",
        ),
        (
            "weft_ca_lookups_total",
            "Pods unknown here that were looked up at the API server",
        ),
        (
            "weft_ca_token_reviews_total",
            "Tokens that the API server was asked about",
        ),
        (
            "weft_ca_connections_refused_total",
            "Connections refused because a bound was reached",
        ),
        (
            "weft_ca_key_failures_total",
            "Times an issuer's keys could not be read or renewed",
        ),
    ] {
        metrics::describe_counter!(name, what);
    }
    for (name, what) in [
        ("weft_ca_bundle_namespaces", "Namespaces that are to have the roots"),
        (
            "weft_ca_bundle_troubles",
            "Namespaces where the roots are not as they should be",
        ),
        (
            "weft_ca_intermediate_expiration_timestamp_seconds",
            "When the intermediate that signs ends, in seconds since 1970",
        ),
    ] {
        metrics::describe_gauge!(name, what);
    }
}

/// The API server, where it tells of pods or keeps our keys.
async fn client(options: &Options) -> Result<Option<Client>, Failure> {
    if !options.is_in_cluster() && options.state_secret.is_none() {
        return Ok(None);
    }
    let client = kubernetes::client().await;
    client.map(Some).map_err(|error| Failure(error.to_string()))
}

fn authentication(options: &Options, client: Option<&Client>) -> Result<Authentication, Failure> {
    let issuers = match options.issuers_file() {
        Some(file) => Issuers::read(&file).map_err(|error| Failure(format!("--issuers: {error}")))?,
        None => Issuers::default(),
    };
    let client = client.filter(|_| options.is_in_cluster());
    let reviews = client.map(|client| Reviews::new(Box::new(client.clone()), &options.audience));
    Ok(Authentication { issuers, reviews })
}

fn bind(options: &Options) -> Result<Acceptor, Failure> {
    let address = options.listen;
    TcpListener::bind(address).and_then(Acceptor::new).map_err(|error| {
        Failure(format!(
            "{address} cannot be listened on ({error}); choose another address with --listen"
        ))
    })
}

/// The authority; waits for an API server that does not give or take our keys.
async fn open_authority(
    options: &Options,
    client: Option<Client>,
    keys: &Gate,
) -> Result<Arc<SigningAuthority>, Failure> {
    let given = options.given.files();
    let mut told = String::new();
    loop {
        let store: Result<Box<dyn Store>, StateError> = match (&options.state_secret, &client) {
            (Some((namespace, name)), Some(client)) => Ok(Box::new(SecretStore::new(client.clone(), namespace, name))),
            _ => Directory::open(&options.state).map(|directory| Box::new(directory) as _),
        };
        let opened = match store {
            Ok(store) => SigningAuthority::open(store, &given, &options.source.trust_domain, SystemTime::now()).await,
            Err(error) => Err(error),
        };
        match opened {
            Ok(authority) => {
                keys.set(true);
                return Ok(Arc::new(authority));
            }
            Err(error @ StateError::Unavailable { .. }) => {
                let why = error.to_string();
                if why != told {
                    tracing::warn!(why, retry_in = ?RETRY, "the keys are waited for");
                    told = why;
                }
            }
            Err(error) => return Err(Failure(error.to_string())),
        }
        sleep(RETRY).await;
    }
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
        let changed = authority.renew(now).await.unwrap_or_else(|error| {
            tracing::error!(%error, "the intermediate stays as it was");
            false
        });
        if let Err(error) = host.renew(now, changed) {
            tracing::error!(error, "no new server certificate");
        }
        let ends = authority
            .ends()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        metrics::gauge!("weft_ca_intermediate_expiration_timestamp_seconds").set(ends.as_secs_f64());
        if end.run_until_cancelled(sleep(UPKEEP)).await.is_none() {
            return;
        }
    }
}

fn dump(authority: Arc<OnceLock<Arc<SigningAuthority>>>) -> Part {
    Arc::new(move || match authority.get() {
        None => json!("its keys are waited for"),
        Some(authority) => json!({
            "roots": act::certs::pem(&authority.roots()),
            "intermediate_ends": humantime::format_rfc3339_seconds(authority.ends()).to_string(),
        }),
    })
}
