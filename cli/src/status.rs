//! The proxies that run: whether they are ready, what they know, their versions, certificates and log levels.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, UNIX_EPOCH},
};

use clap_complete::engine::ArgValueCandidates;
use serde_json::{Value, json};

use crate::{
    complete,
    output::{self, Answer, Format, Table, count, finish, list, print, said},
    proxies::{self, Said},
    source::Source,
};

/// Which proxies run, where, and what they know.
pub(crate) async fn status(from: &Source, format: Format) -> Answer {
    let all = from.statuses().await?;
    if format != Format::Table {
        return print(&by_name(all), format);
    }
    let mut table = Table::new(&[
        "PROXY",
        "KIND",
        "NODE",
        "READY",
        "SNAPSHOT",
        "WORKLOADS",
        "SERVICES",
        "CERTS",
        "PROBLEMS",
    ]);
    for Said { proxy, told } in all {
        match told {
            Ok(told) => table.row([
                proxy.name,
                said(&told["process"]),
                proxy.node,
                readiness(&told),
                snapshot(&told),
                count(&told["workloads"]),
                count(&told["services"]),
                count(&told["certificates"]),
                count(&told["problems"]),
            ]),
            Err(why) => table.row([proxy.name, String::new(), proxy.node, format!("no: {why}")]),
        }
    }
    finish(&table, "no proxy runs", format)
}

fn readiness(told: &Value) -> String {
    if told["ready"] == true {
        return "yes".into();
    }
    let waits = list(&told["waitsFor"]);
    // One that leaves serves what it has, and waits for nothing more.
    match waits.strip_prefix("nothing: ") {
        Some(why) => format!("leaving: {why}"),
        None => format!("waits for {waits}"),
    }
}

/// The version of a proxy's snapshot; whether its first lists are complete, where not.
fn snapshot(told: &Value) -> String {
    match told["snapshot"]["version"].as_u64() {
        Some(version) if told["snapshot"]["complete"] == false => format!("{version} (incomplete)"),
        Some(version) => version.to_string(),
        None => String::new(),
    }
}

/// This command's version, and that of every proxy that runs.
pub(crate) async fn version(from: Result<Source, String>, format: Format) -> Answer {
    let own = env!("CARGO_PKG_VERSION");
    // Without proxies there is still a version to tell.
    let all = match from {
        Ok(from) => from.statuses().await.unwrap_or_default(),
        Err(_) => Vec::new(),
    };
    let told = all
        .into_iter()
        .map(|Said { proxy, told }| (proxy.name, told.map(|told| said(&told["version"]))));
    let versions: Vec<_> = std::iter::once(("weft".to_owned(), Ok(own.to_owned())))
        .chain(told)
        .collect();
    if format != Format::Table {
        let all: BTreeMap<_, _> = versions
            .into_iter()
            .map(|(name, version)| (name, version.unwrap_or_else(|why| why)))
            .collect();
        return print(&json!(all), format);
    }
    let mut table = Table::new(&["NAME", "VERSION"]);
    for (name, version) in versions {
        table.row([name, version.unwrap_or_else(|why| why)]);
    }
    finish(&table, "", format)
}

/// What each proxy really holds.
pub(crate) async fn certs(from: &Source, format: Format) -> Answer {
    if matches!(from, Source::Directory(_)) {
        return Err("a directory holds no certificates: ask the running proxies, without --config".into());
    }
    let all = proxies::ask_all(from.proxies().await?, "/certs").await;
    if format != Format::Table {
        return print(&by_name(all), format);
    }
    let mut table = Table::new(&[
        "PROXY",
        "IDENTITY",
        "SERIAL",
        "NOT AFTER",
        "REMAINING",
        "MISSING BECAUSE",
    ]);
    for Said { proxy, told } in all {
        match told {
            Ok(certs) => {
                for leaf in certs.as_array().into_iter().flatten() {
                    let remaining = leaf["remainingSeconds"].as_u64().map(duration).unwrap_or_default();
                    table.row([
                        proxy.name.clone(),
                        said(&leaf["identity"]),
                        said(&leaf["serial"]),
                        leaf["notAfter"].as_u64().map(moment).unwrap_or_default(),
                        remaining,
                        said(&leaf["missing"]),
                    ]);
                }
            }
            Err(why) => table.row([
                proxy.name,
                String::new(),
                String::new(),
                String::new(),
                String::new(),
                why,
            ]),
        }
    }
    finish(&table, "no proxy holds a certificate", format)
}

/// Whose log level, and which.
#[derive(Debug, clap::Args)]
pub(crate) struct LogLevel {
    /// The proxy, as `weft status` names it
    #[arg(add = ArgValueCandidates::new(complete::proxies))]
    proxy: String,
    /// Such as debug, or info,act::hbone=trace; without it the level now is told
    level: Option<String>,
}

/// Tells or changes how much a proxy logs.
pub(crate) async fn log_level(from: &Source, which: &LogLevel) -> Answer {
    let proxy = from.proxy(&which.proxy).await?;
    let told = match &which.level {
        None => said(&proxy.get("/logging").await?["level"]) + "\n",
        Some(level) => {
            // The characters of a level that a query may not hold as they are.
            let level = level.replace(',', "%2C").replace('=', "%3D");
            proxy.post(&format!("/logging?level={level}"), String::new()).await?
        }
    };
    output::text(&told)?;
    Ok(ExitCode::SUCCESS)
}

fn by_name(all: Vec<Said<Value>>) -> Value {
    let all: BTreeMap<_, _> = all
        .into_iter()
        .map(|Said { proxy, told }| (proxy.name, told.unwrap_or_else(|why| json!({ "error": why }))))
        .collect();
    json!(all)
}

/// A moment in seconds since 1970, as RFC 3339.
fn moment(seconds: u64) -> String {
    // Year 9999, the last that RFC 3339 can write.
    let seconds = seconds.min(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

/// A duration as people say it, to two units.
fn duration(seconds: u64) -> String {
    match (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, seconds) => format!("{seconds}s"),
        (0, 0, minutes, seconds) => format!("{minutes}m{seconds:02}s"),
        (0, hours, minutes, _) => format!("{hours}h{minutes:02}m"),
        (days, hours, ..) => format!("{days}d{hours:02}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_told_to_two_units() {
        assert_eq!(duration(59), "59s");
        assert_eq!(duration(61), "1m01s");
        assert_eq!(duration(7200), "2h00m");
        assert_eq!(duration(90_000), "1d01h");
    }

    #[test]
    fn a_snapshot_that_is_not_complete_says_so() {
        let told = |complete: bool| snapshot(&json!({ "snapshot": { "version": 3, "complete": complete } }));
        assert_eq!((told(true), told(false)), ("3".into(), "3 (incomplete)".into()));
        assert_eq!(snapshot(&json!({})), "");
    }

    #[test]
    fn a_ztunnel_that_leaves_is_told_from_one_that_is_not_ready_yet() {
        let told = |waits: &str| readiness(&json!({ "ready": false, "waitsFor": [waits] }));
        assert_eq!(
            told("nothing: another ztunnel has taken over"),
            "leaving: another ztunnel has taken over"
        );
        assert_eq!(told("its configuration"), "waits for its configuration");
        assert_eq!(readiness(&json!({ "ready": true, "waitsFor": [] })), "yes");
    }

    #[test]
    fn moments_are_rfc_3339_and_never_too_late_to_write() {
        assert_eq!(moment(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(moment(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
