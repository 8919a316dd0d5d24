//! What is told of connections: metrics, access log, traces.

use std::{
    collections::BTreeMap,
    io::Write,
    sync::{Arc, Mutex},
};

use act::{
    hbone::{Connect, Traceparent},
    telemetry::{AccessLog, FlowOptions, Metrics},
};
use decide::model::{Action, MtlsMode, MtlsRules};
use serde_json::Value;

use super::{mesh::policy, *};

/// The access log of this process, as it is written.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("whole").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    pub(super) fn start() -> Self {
        let log = Self::default();
        let writer = log.clone();
        tracing_subscriber::fmt()
            .json()
            .flatten_event(true)
            .with_writer(move || writer.clone())
            .init();
        log
    }

    /// Lines of the access log, as objects.
    fn lines(&self) -> Vec<BTreeMap<String, Value>> {
        let written = String::from_utf8(self.0.lock().expect("whole").clone()).expect("text");
        let all = written
            .lines()
            .map(|line| serde_json::from_str::<BTreeMap<String, Value>>(line).expect("an object a line"));
        all.filter(|line| line["target"] == "access").collect()
    }

    /// Waits for a line with these fields.
    pub(super) async fn line(&self, fields: &[(&str, &str)]) -> BTreeMap<String, Value> {
        let has = |line: &BTreeMap<String, Value>| {
            let is = |(field, value): &(&str, &str)| line.get(*field).and_then(Value::as_str) == Some(*value);
            fields.iter().all(is)
        };
        let start = Instant::now();
        loop {
            if let Some(line) = self.lines().into_iter().find(has) {
                return line;
            }
            assert!(start.elapsed() < LONG, "no line {fields:?} in {:#?}", self.lines());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Sum of the series of a family that have all of these labels.
fn measured(metrics: &Metrics, family: &str, labels: &[(&str, &str)]) -> f64 {
    let text = metrics.render();
    let wanted: Vec<String> = labels
        .iter()
        .map(|(name, value)| format!("{name}=\"{value}\""))
        .collect();
    let of_family = text.lines().filter(|line| line.starts_with(&format!("{family}{{")));
    let series = of_family.filter(|line| wanted.iter().all(|label| line.contains(label.as_str())));
    series
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum()
}

pub(super) async fn until(metrics: &Metrics, family: &str, labels: &[(&str, &str)], value: f64) {
    let start = Instant::now();
    while (measured(metrics, family, labels) - value).abs() > f64::EPSILON {
        let now = measured(metrics, family, labels);
        assert!(
            start.elapsed() < LONG,
            "{family} {labels:?} is {now}, not {value}:\n{}",
            metrics.render()
        );
        sleep(Duration::from_millis(5)).await;
    }
}

/// Client and server, captured, and the application behind.
async fn two(
    mesh: &mut Mesh,
    set: PolicySet,
    options: TrafficOptions,
) -> (mesh::Captured, mesh::Captured, TcpListener) {
    configure(mesh, &[pod("client", CLIENT)]);
    mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), Arc::new(set))));
    let client = mesh.capture("client", CLIENT, options.clone());
    client.listen(ports::OUTBOUND);
    let server = mesh.capture("server", SERVER, options);
    server.listen(ports::HBONE);
    server.listen(ports::INBOUND_PLAINTEXT);
    (client, server, application("10.77.0.2:8080").await)
}

#[test]
fn connections_are_told_under_istios_names_and_labels() {
    inside("seen::connections_are_told_under_istios_names_and_labels", || async {
        let metrics = FlowOptions::default().install();
        let mut mesh = Mesh::new();
        let (client, _server, application) = two(&mut mesh, PolicySet::default(), TrafficOptions::default()).await;
        let mut ours = client.connect("10.77.0.2:8080").await;
        let mut theirs = accepted(&application).await;
        talk(&mut ours, &mut theirs).await;
        for reporter in ["source", "destination"] {
            until(&metrics, "istio_tcp_sockets_open", &[("reporter", reporter)], 1.0).await;
        }
        drop((ours, theirs));
        let labels = |reporter| {
            [
                ("reporter", reporter),
                ("source_workload", "client"),
                ("source_workload_namespace", "shop"),
                ("source_canonical_service", "client"),
                ("source_canonical_revision", "latest"),
                ("source_app", "client"),
                ("source_version", "latest"),
                ("source_cluster", "Kubernetes"),
                ("source_principal", "spiffe://cluster.local/ns/shop/sa/client"),
                ("destination_workload", "server"),
                ("destination_workload_namespace", "shop"),
                ("destination_canonical_service", "server"),
                ("destination_canonical_revision", "latest"),
                ("destination_app", "server"),
                ("destination_version", "latest"),
                ("destination_cluster", "Kubernetes"),
                ("destination_principal", "spiffe://cluster.local/ns/shop/sa/server"),
                ("destination_service", "unknown"),
                ("destination_service_name", "unknown"),
                ("destination_service_namespace", "unknown"),
                ("request_protocol", "tcp"),
                ("response_flags", "-"),
                ("connection_security_policy", "mutual_tls"),
            ]
        };
        for reporter in ["source", "destination"] {
            for (family, value) in [
                ("istio_tcp_connections_opened_total", 1.0),
                ("istio_tcp_connections_closed_total", 1.0),
                ("istio_tcp_sent_bytes_total", 4.0),
                ("istio_tcp_received_bytes_total", 4.0),
            ] {
                until(&metrics, family, &labels(reporter), value).await;
            }
            until(&metrics, "istio_tcp_sockets_open", &[("reporter", reporter)], 0.0).await;
        }
    });
}

#[test]
fn bytes_are_counted_while_they_flow() {
    inside("seen::bytes_are_counted_while_they_flow", || async {
        let metrics = FlowOptions::default().install();
        let mut mesh = Mesh::new();
        let mut options = TrafficOptions::default();
        options.patience.tick = Duration::from_millis(20);
        let (client, _server, application) = two(&mut mesh, PolicySet::default(), options).await;
        let mut ours = client.connect("10.77.0.2:8080").await;
        let mut theirs = accepted(&application).await;
        for talks in [4.0, 8.0, 12.0] {
            talk(&mut ours, &mut theirs).await;
            for reporter in ["source", "destination"] {
                let of = [("reporter", reporter), ("destination_workload", "server")];
                until(&metrics, "istio_tcp_sent_bytes_total", &of, talks).await;
                until(&metrics, "istio_tcp_received_bytes_total", &of, talks).await;
                let closed = measured(&metrics, "istio_tcp_connections_closed_total", &of);
                assert!(closed.abs() < f64::EPSILON, "it lives");
            }
        }
    });
}

#[test]
fn what_fails_what_is_refused_and_what_is_cut_are_told_apart() {
    inside(
        "seen::what_fails_what_is_refused_and_what_is_cut_are_told_apart",
        || async {
            let (metrics, log) = (FlowOptions::default().install(), Log::start());
            let mut mesh = Mesh::new();
            let (client, server, application) = two(&mut mesh, PolicySet::default(), TrafficOptions::default()).await;
            let failed = "istio_tcp_connections_failed_total";
            // Nobody listens there.
            assert!(is_reset(&mut client.connect("10.77.0.2:9").await).await);
            let of = |reporter| [("reporter", reporter), ("destination_workload", "server")];
            let flags = |reporter, flags| [of(reporter)[0], of(reporter)[1], ("response_flags", flags)];
            until(&metrics, failed, &flags("destination", "CONNECT"), 1.0).await;
            until(&metrics, failed, &flags("source", "REFUSED_BY_PEER"), 1.0).await;
            // One that lives is cut.
            let mut living = client.connect("10.77.0.2:8080").await;
            talk(&mut living, &mut accepted(&application).await).await;
            mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), deny_everything())));
            assert!(is_reset(&mut living).await);
            let cut = [("reporter", "destination"), ("outcome", "cut"), ("reason", "DENY")];
            until(&metrics, "weft_connections_ended_total", &cut, 1.0).await;
            let line = log.line(&[("outcome", "cut"), ("reporter", "destination")]).await;
            assert_eq!(line["refusal"], "DENY");
            assert_eq!(line["policy"], "AuthorizationPolicy shop/nobody spec.rules[0]");
            let refused = measured(&metrics, failed, &flags("destination", "DENY"));
            assert!(refused.abs() < f64::EPSILON, "it was not refused");
            // A new one is refused.
            assert!(is_reset(&mut client.connect("10.77.0.2:8080").await).await);
            until(&metrics, failed, &flags("destination", "DENY"), 1.0).await;
            log.line(&[("outcome", "refused"), ("reporter", "destination"), ("refusal", "DENY")])
                .await;
            // And plaintext, where it is not taken.
            let strict = PolicySet {
                mtls: MtlsRules {
                    default: (MtlsMode::Strict, None),
                    ..MtlsRules::default()
                },
                ..PolicySet::default()
            };
            mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), Arc::new(strict))));
            assert!(is_reset(&mut server.plaintext_from(OUTSIDE, 8080).await).await);
            let plain = [
                ("reporter", "destination"),
                ("response_flags", "PLAINTEXT_REFUSED"),
                ("connection_security_policy", "none"),
                ("source_principal", "unknown"),
            ];
            until(&metrics, failed, &plain, 1.0).await;
        },
    );
}

#[test]
fn the_access_log_tells_of_open_and_close() {
    inside("seen::the_access_log_tells_of_open_and_close", || async {
        let options = FlowOptions {
            access_log: AccessLog::Both,
            ..FlowOptions::default()
        };
        options.install();
        let log = Log::start();
        let mut mesh = Mesh::new();
        let (client, _server, application) = two(&mut mesh, PolicySet::default(), TrafficOptions::default()).await;
        let mut ours = client.connect("10.77.0.2:8080").await;
        let mut theirs = accepted(&application).await;
        talk(&mut ours, &mut theirs).await;
        for reporter in ["source", "destination"] {
            let opened = log.line(&[("outcome", "opened"), ("reporter", reporter)]).await;
            assert_eq!(opened["src.identity"], "spiffe://cluster.local/ns/shop/sa/client");
            assert!(!opened.contains_key("bytes_sent"));
        }
        assert!(!log.lines().iter().any(|line| line["outcome"] == "closed"));
        drop((ours, theirs));
        for reporter in ["source", "destination"] {
            let closed = log.line(&[("outcome", "closed"), ("reporter", reporter)]).await;
            assert_eq!((&closed["bytes_sent"], &closed["bytes_recv"]), (&4.into(), &4.into()));
            assert_eq!(closed["dst.workload"], "server");
        }
    });
}

#[test]
fn a_connections_trace_is_the_same_on_both_sides_and_a_malformed_one_is_dropped() {
    inside(
        "seen::a_connections_trace_is_the_same_on_both_sides_and_a_malformed_one_is_dropped",
        || async {
            FlowOptions::default().install();
            let log = Log::start();
            let mut mesh = Mesh::new();
            let (client, _server, application) = two(&mut mesh, PolicySet::default(), TrafficOptions::default()).await;
            let mut ours = client.connect("10.77.0.2:8080").await;
            let mut theirs = accepted(&application).await;
            talk(&mut ours, &mut theirs).await;
            drop((ours, theirs));
            let source = log.line(&[("reporter", "source"), ("outcome", "closed")]).await;
            let destination = log.line(&[("reporter", "destination"), ("outcome", "closed")]).await;
            assert_eq!(source["trace"], destination["trace"]);
            assert_eq!(source["trace"].as_str().expect("a trace").len(), 32);
            // A stranger's own trace, and none.
            let (pool, target) = mesh.stranger("stranger", &pod("server", SERVER)).await;
            let connect = |traceparent| Connect {
                authority: "10.77.0.2:8080".parse().expect("an address"),
                client: "10.77.0.1:1".parse().expect("an address"),
                host: None,
                baggage: None,
                traceparent,
            };
            drop(
                pool.open(&target, &connect(Some(Traceparent::new(0xabc, 1))))
                    .await
                    .expect("is let in"),
            );
            log.line(&[("trace", "00000000000000000000000000000abc")]).await;
            drop(pool.open(&target, &connect(None)).await.expect("is let in"));
            let start = Instant::now();
            let untraced = || log.lines().iter().filter(|line| !line.contains_key("trace")).count();
            while untraced() == 0 {
                assert!(start.elapsed() < LONG, "{:#?}", log.lines());
                sleep(Duration::from_millis(5)).await;
            }
        },
    );
}

#[test]
fn a_dry_run_is_logged_and_counted_and_cuts_nothing() {
    inside("seen::a_dry_run_is_logged_and_counted_and_cuts_nothing", || async {
        let (metrics, log) = (FlowOptions::default().install(), Log::start());
        let mut mesh = Mesh::new();
        let on_trial = |action, rules| {
            let mut applied = policy("trial", action, rules);
            Arc::make_mut(&mut applied.policy).dry_run = true;
            PolicySet {
                policies: vec![applied],
                ..PolicySet::default()
            }
        };
        let deny = on_trial(Action::Deny, vec![decide::model::Rule::default()]);
        let (client, _server, application) = two(&mut mesh, deny, TrafficOptions::default()).await;
        let counted = "weft_dry_run_denials_total";
        let of = [("policy", "AuthorizationPolicy shop/trial")];
        let mut living = client.connect("10.77.0.2:8080").await;
        let mut living_far = accepted(&application).await;
        talk(&mut living, &mut living_far).await;
        until(&metrics, counted, &of, 1.0).await;
        // An ALLOW on trial that allows nobody.
        let allow = on_trial(Action::Allow, Vec::new());
        mesh.change(|snapshot| snapshot.put_workload(with_policies(pod("server", SERVER), Arc::new(allow))));
        let mut second = client.connect("10.77.0.2:8080").await;
        talk(&mut second, &mut accepted(&application).await).await;
        until(&metrics, counted, &of, 2.0).await;
        talk(&mut living, &mut living_far).await;
        drop((living, living_far, second));
        for field in ["spec.rules[0]", "spec.rules"] {
            let said = format!("would be denied by AuthorizationPolicy shop/trial {field}");
            let line = log.line(&[("dry_run", &said)]).await;
            assert_eq!(
                (&line["outcome"], &line["reporter"]),
                (&"closed".into(), &"destination".into())
            );
        }
    });
}
