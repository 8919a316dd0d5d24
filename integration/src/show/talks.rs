//! Who talks to whom, read off the proxies' metrics.

use std::collections::BTreeMap;

use crate::observe::Sample;

/// One pair of talkers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Talk {
    /// Who asks: `namespace/workload`.
    pub(super) from: String,
    /// As whom, without the scheme; empty outside the mesh.
    pub(super) identity: String,
    /// What is asked: `namespace/service`, else `namespace/workload`.
    pub(super) to: String,
    /// Over what.
    pub(super) over: String,
    /// Connections that were opened.
    pub(super) connections: u64,
    /// Requests a waypoint saw.
    pub(super) requests: u64,
    /// Connections and requests that were refused.
    pub(super) refused: u64,
    /// By which refusals.
    pub(super) flags: Vec<String>,
}

#[derive(Debug, Default)]
struct Counts {
    identity: String,
    encrypted: bool,
    plain: bool,
    waypoint: bool,
    /// By reporter: both ends tell of one connection.
    opened: BTreeMap<String, u64>,
    refused: BTreeMap<String, u64>,
    requests: u64,
    requests_refused: u64,
    flags: Vec<String>,
}

/// Every pair, by name.
pub(super) fn talks(samples: &[Sample]) -> Vec<Talk> {
    let mut pairs: BTreeMap<(String, String), Counts> = BTreeMap::new();
    for sample in samples {
        let (from, to) = (party(sample, "source"), destination(sample));
        if from.is_empty() && to.is_empty() {
            continue;
        }
        let counts = match &*sample.name {
            "istio_tcp_connections_opened_total" | "istio_tcp_connections_failed_total" | "istio_requests_total" => {
                pairs.entry((from, to)).or_default()
            }
            _ => continue,
        };
        counts.add(sample);
    }
    let mut talks: Vec<_> = pairs
        .into_iter()
        .map(|((from, to), counts)| counts.talk(from, to))
        .collect();
    talks.retain(|talk| talk.connections + talk.requests + talk.refused > 0);
    talks
}

impl Counts {
    fn add(&mut self, sample: &Sample) {
        let count = sample.value as u64;
        let reporter = sample.label("reporter").to_owned();
        let principal = sample.label("source_principal");
        if !principal.is_empty() {
            self.identity = principal.trim_start_matches("spiffe://").to_owned();
        }
        let flags = sample.label("response_flags");
        match &*sample.name {
            "istio_requests_total" => {
                self.waypoint = true;
                self.requests += count;
                if !matches!(flags, "" | "-") {
                    self.requests_refused += count;
                    self.flag(flags);
                }
            }
            "istio_tcp_connections_failed_total" => {
                *self.refused.entry(reporter).or_default() += count;
                self.flag(flags);
            }
            _ => {
                self.encrypted |= sample.label("connection_security_policy") == "mutual_tls";
                self.plain |= sample.label("connection_security_policy") == "none";
                *self.opened.entry(reporter).or_default() += count;
            }
        }
    }

    fn flag(&mut self, flag: &str) {
        if !flag.is_empty() && !self.flags.iter().any(|it| it == flag) {
            self.flags.push(flag.to_owned());
        }
    }

    fn talk(self, from: String, to: String) -> Talk {
        let most = |counts: &BTreeMap<String, u64>| counts.values().max().copied().unwrap_or(0);
        let mut over = match (self.encrypted || self.waypoint, self.plain) {
            (true, false) => "HBONE",
            (true, true) => "HBONE, plaintext",
            (false, true) => "plaintext",
            (false, false) => "",
        }
        .to_owned();
        if self.waypoint {
            over += " by waypoint";
        }
        Talk {
            from,
            identity: self.identity,
            to,
            over,
            connections: most(&self.opened),
            requests: self.requests,
            refused: most(&self.refused) + self.requests_refused,
            flags: self.flags,
        }
    }
}

fn destination(sample: &Sample) -> String {
    let (name, namespace) = (
        sample.label("destination_service_name"),
        sample.label("destination_service_namespace"),
    );
    if name.is_empty() {
        party(sample, "destination")
    } else {
        format!("{namespace}/{name}")
    }
}

fn party(sample: &Sample, side: &str) -> String {
    let workload = sample.label(&format!("{side}_workload"));
    let namespace = sample.label(&format!("{side}_workload_namespace"));
    match (workload, namespace) {
        ("", _) => String::new(),
        (workload, "") => workload.to_owned(),
        (workload, namespace) => format!("{namespace}/{workload}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::samples;

    fn series(metric: &str, reporter: &str, more: &str, value: u32) -> String {
        format!(
            "{metric}{{reporter=\"{reporter}\",source_workload=\"client\",source_workload_namespace=\"shop\",\
             source_principal=\"spiffe://cluster.local/ns/shop/sa/client\",destination_service_name=\"web\",\
             destination_service_namespace=\"shop\",{more}}} {value}\n"
        )
    }

    #[test]
    fn both_ends_tell_of_one_connection() {
        let tls = "connection_security_policy=\"mutual_tls\"";
        let page = series("istio_tcp_connections_opened_total", "source", tls, 7)
            + &series("istio_tcp_connections_opened_total", "destination", tls, 6);
        let told = talks(&samples(&page));
        assert_eq!(told.len(), 1);
        assert_eq!(
            (&*told[0].from, &*told[0].to, &*told[0].over),
            ("shop/client", "shop/web", "HBONE")
        );
        assert_eq!(
            (told[0].connections, &*told[0].identity),
            (7, "cluster.local/ns/shop/sa/client")
        );
    }

    #[test]
    fn a_waypoint_tells_of_requests_and_refusals() {
        let page = series("istio_requests_total", "waypoint", "response_flags=\"-\"", 9)
            + &series("istio_requests_total", "waypoint", "response_flags=\"DENY\"", 2);
        let told = talks(&samples(&page));
        assert_eq!(
            (told[0].requests, told[0].refused, told[0].flags.join(" ")),
            (11, 2, "DENY".into())
        );
        assert_eq!(told[0].over, "HBONE by waypoint");
    }

    #[test]
    fn series_of_nobody_and_other_metrics_are_passed_over() {
        assert!(
            talks(&samples(
                "istio_requests_total{reporter=\"source\"} 3\nother{source_workload=\"a\"} 1\n"
            ))
            .is_empty()
        );
    }
}
