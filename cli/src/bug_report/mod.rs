//! `weft bug-report`: everything that explains a mesh, in one file that can be shown to others. Comes in: a cluster.
//! Goes out: a `.tar.gz`, and a list of what is in it. Never: a Secret.

mod archive;
mod redact;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use hyper::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::LogParams};
use serde_json::{Value, json};

use self::archive::Archive;
use crate::{
    check,
    cluster::sentence,
    finding,
    output::{self, Answer, Format, Table, print},
    pods::{self, MESH, Part},
};

/// Objects of one kind that are kept.
const MOST_OBJECTS: usize = 20_000;
/// Objects per page.
const PAGE: usize = 500;
/// Of the end of each log: lines, and bytes.
const LOG_LINES: i64 = 5_000;
const LOG_BYTES: i64 = 4 << 20;

/// What is kept of the API server: file and path. Secrets and ConfigMaps are not among them.
const OBJECTS: &[(&str, &str)] = &[
    ("nodes", "/api/v1/nodes"),
    ("namespaces", "/api/v1/namespaces"),
    ("pods", "/api/v1/pods"),
    ("services", "/api/v1/services"),
    ("serviceaccounts", "/api/v1/serviceaccounts"),
    ("endpointslices", "/apis/discovery.k8s.io/v1/endpointslices"),
    ("networkpolicies", "/apis/networking.k8s.io/v1/networkpolicies"),
    ("gateways", "/apis/gateway.networking.k8s.io/v1/gateways"),
    ("httproutes", "/apis/gateway.networking.k8s.io/v1/httproutes"),
    (
        "referencegrants",
        "/apis/gateway.networking.k8s.io/v1beta1/referencegrants",
    ),
    ("authorizationpolicies", "/apis/weft.dev/v1alpha1/authorizationpolicies"),
    ("peerauthentications", "/apis/weft.dev/v1alpha1/peerauthentications"),
    ("trafficpolicies", "/apis/weft.dev/v1alpha1/trafficpolicies"),
    ("externalservices", "/apis/weft.dev/v1alpha1/externalservices"),
    ("meshconfigs", "/apis/weft.dev/v1alpha1/meshconfigs"),
    ("mesh-daemonsets", "/apis/apps/v1/namespaces/weft-system/daemonsets"),
    ("mesh-deployments", "/apis/apps/v1/namespaces/weft-system/deployments"),
    ("mesh-events", "/api/v1/namespaces/weft-system/events"),
];

/// Where the report goes.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The archive; by default weft-bug-report-TIME.tar.gz here
    file: Option<PathBuf>,
}

/// A report being made.
struct Report {
    archive: Archive,
    /// What could not be had, and why.
    missing: Vec<String>,
}

/// Makes it.
///
/// # Errors
/// When the file cannot be written. What the cluster does not tell is listed in the report instead.
pub(crate) async fn run(client: &Client, arguments: &Arguments, format: Format) -> Answer {
    let path = arguments
        .file
        .clone()
        .unwrap_or_else(|| default_name(SystemTime::now()));
    let wrong = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    let mut report = Report {
        archive: Archive::create(&path).map_err(wrong)?,
        missing: Vec::new(),
    };
    report.fill(client).await.map_err(wrong)?;
    let Report { mut archive, missing } = report;
    archive.add("missing.txt", &missing.join("\n")).map_err(wrong)?;
    let contents = archive.finish().map_err(wrong)?;
    tell(&path, &contents, &missing, format)
}

fn default_name(now: SystemTime) -> PathBuf {
    let time = humantime::format_rfc3339_seconds(now)
        .to_string()
        .replace([':', 'Z'], "")
        .replace('T', "-");
    format!("weft-bug-report-{time}.tar.gz").into()
}

fn tell(path: &Path, contents: &[(String, usize)], missing: &[String], format: Format) -> Answer {
    if format != Format::Table {
        let files: Vec<_> = contents
            .iter()
            .map(|(file, bytes)| json!({ "file": file, "bytes": bytes }))
            .collect();
        return print(&json!({ "archive": path, "files": files, "missing": missing }), format);
    }
    let mut table = Table::new(&["FILE", "BYTES"]);
    for (file, bytes) in contents {
        table.row([file.clone(), bytes.to_string()]);
    }
    output::table(&table, "")?;
    for what in missing {
        output::text(&format!("missing: {what}\n"))?;
    }
    output::text(&format!(
        "\n{} is written. Secrets are not in it, and what looks like a key, a token or a password is taken out; look \
         through it all the same before you show it to others\n",
        path.display()
    ))?;
    Ok(ExitCode::SUCCESS)
}

impl Report {
    async fn fill(&mut self, client: &Client) -> std::io::Result<()> {
        progress("checks");
        match check::findings(client, false).await {
            Ok(findings) => {
                self.keep("check.txt", &(finding::table(&findings).lines().join("\n") + "\n"))?;
                self.keep("check.json", &format!("{:#}\n", json!(findings)))?;
            }
            Err(why) => self.missing.push(format!("check: {why}")),
        }
        self.objects(client).await?;
        let parts = pods::parts(client).await.unwrap_or_else(|why| {
            self.missing.push(format!("the mesh's pods: {why}"));
            Vec::new()
        });
        self.proxies(client, &parts).await?;
        self.logs(client, &parts).await
    }

    async fn objects(&mut self, client: &Client) -> std::io::Result<()> {
        let version = client.apiserver_version().await;
        let server = version.map_or_else(|error| error.to_string(), |version| version.git_version);
        let versions = json!({ "weft": env!("CARGO_PKG_VERSION"), "kubernetes": server });
        self.keep("versions.json", &format!("{versions:#}\n"))?;
        for (name, path) in OBJECTS {
            progress(name);
            match items(client, path).await {
                Ok(mut items) => {
                    for item in &mut items {
                        let is_ours = item["metadata"]["namespace"] == MESH;
                        redact::object(item, is_ours);
                    }
                    self.keep(&format!("objects/{name}.json"), &format!("{:#}\n", json!(items)))?;
                }
                // A kind that is not installed.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => self.missing.push(sentence(&format!("list {name}"), &error)),
            }
        }
        Ok(())
    }

    /// What each proxy knows and measures.
    async fn proxies(&mut self, client: &Client, parts: &[Part]) -> std::io::Result<()> {
        for part in parts {
            let proxy = pods::proxy(client, &part.pod);
            progress(&proxy.name);
            for (path, file) in [("/config_dump", "config_dump.json"), ("/metrics", "metrics.txt")] {
                match proxy.read(path).await {
                    Ok(text) => self.keep(&format!("proxies/{}/{file}", proxy.name), &text)?,
                    Err(why) => self.missing.push(format!("{path} of {}: {why}", proxy.name)),
                }
            }
        }
        Ok(())
    }

    /// The end of each container's log, and of the one before it where it was restarted.
    async fn logs(&mut self, client: &Client, parts: &[Part]) -> std::io::Result<()> {
        for Part { pod, .. } in parts {
            let (namespace, name) = (text(&pod.metadata.namespace), text(&pod.metadata.name));
            progress(&format!("log of {name}"));
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let containers = pod
                .status
                .iter()
                .flat_map(|status| status.container_statuses.iter().flatten());
            for container in containers {
                for previous in [false, true] {
                    if previous && container.restart_count == 0 {
                        continue;
                    }
                    let wanted = LogParams {
                        container: Some(container.name.clone()),
                        previous,
                        tail_lines: Some(LOG_LINES),
                        limit_bytes: Some(LOG_BYTES),
                        timestamps: true,
                        ..LogParams::default()
                    };
                    let which = if previous { "previous" } else { "current" };
                    let file = format!("logs/{namespace}/{name}/{}-{which}.txt", container.name);
                    match pods.logs(name, &wanted).await {
                        Ok(log) => self.keep(&file, &log)?,
                        Err(error) => self.missing.push(sentence(&format!("read {file}"), &error)),
                    }
                }
            }
        }
        Ok(())
    }

    /// Adds a file, without what looks like a secret.
    fn keep(&mut self, name: &str, text: &str) -> std::io::Result<()> {
        self.archive.add(name, &redact::text(text))
    }
}

async fn items(client: &Client, path: &str) -> kube::Result<Vec<Value>> {
    let mut items = Vec::new();
    let mut resume = String::new();
    loop {
        let request = Request::get(format!("{path}?limit={PAGE}{resume}")).body(Vec::new());
        let mut page: Value = client.request(request.map_err(kube::Error::HttpError)?).await?;
        if let Value::Array(found) = page["items"].take() {
            items.extend(found);
        }
        match page["metadata"]["continue"].as_str() {
            // A token of the API server: base64url, which needs no escapes.
            Some(token) if !token.is_empty() && items.len() < MOST_OBJECTS => resume = format!("&continue={token}"),
            _ => return Ok(items),
        }
    }
}

/// Says on standard error what is being read.
fn progress(what: &str) {
    let _ = writeln!(std::io::stderr(), "reading {what}");
}

fn text(written: &Option<String>) -> &str {
    written.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn neither_secrets_nor_configmaps_are_read() {
        for (name, path) in OBJECTS {
            assert!(!path.contains("secrets") && !path.contains("configmaps"), "{name}");
            assert!(path.starts_with("/api"), "{name}");
        }
    }

    #[test]
    fn the_archive_is_named_by_its_time() {
        let name = default_name(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        assert_eq!(name.to_str(), Some("weft-bug-report-2023-11-14-221320.tar.gz"));
    }
}
