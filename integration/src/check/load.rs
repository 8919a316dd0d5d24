//! Point 9: five hundred connections of a program that nobody here wrote, and nothing left behind.

use std::{fs, time::Duration};

use super::{Bench, Point};

/// Both ends' ztunnels.
const PROXIES: [&str; 2] = ["ztunnel-node-1", "ztunnel-node-2"];
/// What a ztunnel may have kept a minute later.
const KEPT: u64 = 4 * 1024 * 1024;

/// A few connections, whose tunnels stay for the next; memory and descriptors; wrk, a minute of rest, and the same again.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    wrk(bench, point, "8", "1s").await;
    let mut before = Vec::new();
    for proxy in PROXIES {
        before.push(point.step("memory and descriptors before", held(bench, proxy).await));
    }
    bench.tell("wrk: 500 connections for 30 s");
    wrk(bench, point, "500", "30s").await;
    bench.tell("a minute of rest");
    tokio::time::sleep(Duration::from_secs(60)).await;
    for (proxy, before) in PROXIES.into_iter().zip(before) {
        let after = point.step("memory and descriptors after", held(bench, proxy).await);
        if let (Some(before), Some(after)) = (before, after) {
            compare(point, proxy, &before, &after);
        }
    }
}

async fn wrk(bench: &Bench, point: &mut Point, connections: &str, time: &str) {
    let law = &format!("wrk -c {connections} -d {time} through two ztunnels");
    let words = [
        "wrk",
        "-t",
        "2",
        "-c",
        connections,
        "-d",
        time,
        "--timeout",
        "10s",
        "http://catalog/",
    ];
    let Some(finished) = point.step(law, bench.run("shop/client-a", &words).await) else {
        return;
    };
    let line = |begin: &str| {
        finished
            .stdout
            .lines()
            .map(str::trim)
            .find(|line| line.starts_with(begin))
    };
    let (errors, other, rate) = (line("Socket errors"), line("Non-2xx"), line("Requests/sec"));
    let seen = [errors, other, rate]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join("; ");
    let pass = finished.success() && errors.is_none() && other.is_none() && rate.is_some();
    point.assert(law, "0 socket errors, 0 non-2xx", seen, pass);
}

fn compare(point: &mut Point, proxy: &str, before: &Held, after: &Held) {
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1_048_576.0);
    point.assert(
        &format!("{proxy} gives its memory back"),
        format!("at most {}", mib(before.memory + KEPT)),
        mib(after.memory),
        after.memory <= before.memory + KEPT,
    );
    point.assert(
        &format!("{proxy} closes its descriptors"),
        format!("at most {}", before.descriptors),
        after.descriptors,
        after.descriptors <= before.descriptors,
    );
}

/// What a process holds.
#[derive(Debug)]
pub(crate) struct Held {
    /// Resident bytes.
    pub(crate) memory: u64,
    /// Open descriptors.
    pub(crate) descriptors: usize,
}

/// What a process of the world holds now.
pub(crate) async fn held(bench: &Bench, process: &str) -> Result<Held, act::process::Failure> {
    let pid = bench.world.pid(process).await?;
    let failed = |error: std::io::Error| act::process::Failure(format!("/proc/{pid} cannot be read: {error}"));
    let status = fs::read_to_string(format!("/proc/{pid}/status")).map_err(failed)?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmRSS"))
        .unwrap_or_default();
    let kilobytes: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|it| it.parse().ok())
        .unwrap_or(0);
    Ok(Held {
        memory: kilobytes * 1024,
        descriptors: fs::read_dir(format!("/proc/{pid}/fd")).map_err(failed)?.count(),
    })
}
