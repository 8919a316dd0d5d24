//! The lists: status, workloads, services, policies, certificates.

use std::{
    collections::BTreeMap,
    process::ExitCode,
    time::{Duration, UNIX_EPOCH},
};

use serde_json::{Value, json};

use crate::{
    output::{self, Format, Table},
    source::Source,
};

/// A list that may be narrowed to one namespace.
#[derive(Debug, clap::Args)]
pub(crate) struct Namespaced {
    /// Only this namespace
    #[arg(short, long)]
    namespace: Option<String>,
}

type Answer = Result<ExitCode, String>;

/// Which proxies run, and what they know.
pub(crate) fn status(from: &Source, format: Format) -> Answer {
    let dumps = from.dumps()?;
    if format != Format::Table {
        let all: BTreeMap<_, _> = dumps
            .into_iter()
            .map(|dump| (dump.name, dump.told.unwrap_or_else(|why| json!({ "error": why }))))
            .collect();
        return print(&json!(all), format);
    }
    let mut table = Table::new(&[
        "PROXY",
        "KIND",
        "READY",
        "SNAPSHOT",
        "WORKLOADS",
        "SERVICES",
        "CERTS",
        "PROBLEMS",
    ]);
    for dump in dumps {
        match dump.told {
            Ok(told) => table.row([
                dump.name,
                text(&told["process"]),
                if told["ready"] == true {
                    "yes".into()
                } else {
                    format!("waits for {}", list(&told["waitsFor"]))
                },
                told["snapshot"]["version"].to_string(),
                count(&told["workloads"]),
                count(&told["services"]),
                count(&told["certificates"]),
                count(&told["problems"]),
            ]),
            Err(why) => table.row([dump.name, String::new(), why]),
        }
    }
    output::table(&table, "no proxy runs")?;
    Ok(ExitCode::SUCCESS)
}

/// This command's version, and that of every proxy that runs.
pub(crate) fn version(from: &Source, format: Format) -> Answer {
    let own = env!("CARGO_PKG_VERSION");
    // Without proxies there is still a version to tell.
    let dumps = from.dumps().unwrap_or_default();
    let told = dumps
        .into_iter()
        .map(|dump| (dump.name, dump.told.map(|told| text(&told["version"]))));
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

/// Every workload.
pub(crate) fn workloads(from: &Source, which: &Namespaced, format: Format) -> Answer {
    let mut table = Table::new(&[
        "NAMESPACE",
        "POD",
        "NODE",
        "ADDRESS",
        "IDENTITY",
        "CAPTURE",
        "PHASE",
        "WAYPOINT",
    ]);
    rows(
        from,
        "workloads",
        |it| &it["namespace"],
        which,
        format,
        |it| {
            table.row([
                text(&it["namespace"]),
                text(&it["name"]),
                text(&it["node"]),
                list(&it["addresses"]),
                text(&it["identity"]),
                text(&it["capture"]),
                text(&it["phase"]),
                named(&it["waypoint"]),
            ]);
        },
    )?;
    finish(&table, "no workload", format)
}

/// Every Service.
pub(crate) fn services(from: &Source, which: &Namespaced, format: Format) -> Answer {
    let mut table = Table::new(&[
        "NAMESPACE",
        "SERVICE",
        "ADDRESS",
        "PORTS",
        "READY",
        "WAYPOINT",
        "ROUTES",
    ]);
    rows(
        from,
        "services",
        |it| &it["key"]["namespace"],
        which,
        format,
        |it| {
            let endpoints: Vec<_> = it["endpoints"].as_array().into_iter().flatten().collect();
            let ready = endpoints.iter().filter(|endpoint| endpoint["ready"] == true).count();
            let ports: Vec<_> = it["ports"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|port| port["port"].to_string())
                .collect();
            let routes: Vec<_> = it["routes"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|route| text(&route["object"]["name"]))
                .collect();
            table.row([
                text(&it["key"]["namespace"]),
                text(&it["key"]["name"]),
                list(&it["addresses"]),
                ports.join(","),
                format!("{ready}/{}", endpoints.len()),
                named(&it["waypoint"]),
                routes.join(","),
            ]);
        },
    )?;
    finish(&table, "no Service", format)
}

/// Every policy that binds something, with what it binds.
pub(crate) fn policies(from: &Source, which: &Namespaced, format: Format) -> Answer {
    let mesh = from.mesh()?;
    let mut found: BTreeMap<(String, String), (Value, Vec<String>)> = BTreeMap::new();
    for (kind, field) in [("pod", "workloads"), ("Service", "services")] {
        for bound in mesh[field].as_array().into_iter().flatten() {
            let name = if bound["name"].is_string() {
                text(&bound["name"])
            } else {
                text(&bound["key"]["name"])
            };
            for applied in bound["policies"]["policies"].as_array().into_iter().flatten() {
                let policy = &applied["policy"];
                let key = (text(&policy["object"]["namespace"]), text(&policy["object"]["name"]));
                found
                    .entry(key)
                    .or_insert_with(|| (policy.clone(), Vec::new()))
                    .1
                    .push(format!("{kind} {name}"));
            }
        }
    }
    found.retain(|(namespace, _), _| which.namespace.as_ref().is_none_or(|wanted| wanted == namespace));
    if format != Format::Table {
        let all = found
            .values()
            .map(|(policy, binds)| json!({ "policy": policy, "binds": binds }));
        return print(&all.collect(), format);
    }
    let mut table = Table::new(&["NAMESPACE", "POLICY", "ACTION", "RULES", "DRY RUN", "BINDS"]);
    for ((namespace, name), (policy, binds)) in found {
        let broken = if policy["broken"].is_null() {
            String::new()
        } else {
            " (broken: refuses all)".into()
        };
        let dry = if policy["dry_run"] == true { "yes" } else { "no" };
        let action = text(&policy["action"]).to_uppercase() + &broken;
        table.row([
            namespace,
            name,
            action,
            count(&policy["rules"]),
            dry.into(),
            binds.join(", "),
        ]);
    }
    finish(&table, "no policy binds anything", format)
}

/// What each proxy really holds.
pub(crate) fn certs(from: &Source, format: Format) -> Answer {
    if from.directory().is_some() {
        return Err("a directory holds no certificates: ask the running proxies, without --config".into());
    }
    let proxies = from.proxies()?;
    let told: Vec<_> = proxies.iter().map(|proxy| (&proxy.name, proxy.get("/certs"))).collect();
    if format != Format::Table {
        let all: BTreeMap<_, _> = told
            .into_iter()
            .map(|(name, certs)| (name, certs.unwrap_or_else(|why| json!({ "error": why }))))
            .collect();
        return print(&json!(all), format);
    }
    let mut table = Table::new(&[
        "PROXY",
        "IDENTITY",
        "SERIAL",
        "NOT AFTER",
        "REMAINING",
        "MISSING BECAUSE",
    ]);
    for (name, certs) in told {
        match certs {
            Ok(certs) => {
                for leaf in certs.as_array().into_iter().flatten() {
                    let remaining = leaf["remainingSeconds"].as_u64().map(duration).unwrap_or_default();
                    table.row([
                        name.clone(),
                        text(&leaf["identity"]),
                        text(&leaf["serial"]),
                        leaf["notAfter"].as_u64().map(moment).unwrap_or_default(),
                        remaining,
                        text(&leaf["missing"]),
                    ]);
                }
            }
            Err(why) => table.row([
                name.clone(),
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

fn rows<'n>(
    from: &Source,
    field: &str,
    namespace: impl Fn(&Value) -> &Value,
    which: &'n Namespaced,
    format: Format,
    mut row: impl FnMut(&Value),
) -> Result<(), String> {
    let mesh = from.mesh()?;
    let wanted = |it: &&Value| {
        which
            .namespace
            .as_ref()
            .is_none_or(|wanted: &'n String| namespace(it) == wanted.as_str())
    };
    let found: Vec<&Value> = mesh[field].as_array().into_iter().flatten().filter(wanted).collect();
    if format == Format::Table {
        found.into_iter().for_each(&mut row);
        Ok(())
    } else {
        output::value(&json!(found), format)
    }
}

fn finish(table: &Table, empty: &str, format: Format) -> Answer {
    if format == Format::Table {
        output::table(table, empty)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn print(value: &Value, format: Format) -> Answer {
    output::value(value, format)?;
    Ok(ExitCode::SUCCESS)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn list(value: &Value) -> String {
    value
        .as_array()
        .into_iter()
        .flatten()
        .map(text)
        .collect::<Vec<_>>()
        .join(",")
}

fn count(value: &Value) -> String {
    value.as_array().map_or(0, Vec::len).to_string()
}

/// `namespace/name` of a key; empty when there is none.
fn named(key: &Value) -> String {
    match (key["namespace"].as_str(), key["name"].as_str()) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => String::new(),
    }
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
    fn moments_are_rfc_3339_and_never_too_late_to_write() {
        assert_eq!(moment(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(moment(u64::MAX), "9999-12-31T23:59:59Z");
    }
}
