//! Point 8: what cannot be honoured is reported where it stands, and never allows more than was meant.

use std::time::Duration;

use act::process::Failure;

use super::{Bench, Point};

/// The file that the bad objects are put in.
const FILE: &str = "93-bad.yaml";

struct Case {
    law: &'static str,
    yaml: &'static str,
    /// What the report must name.
    object: &'static str,
    field: &'static str,
    /// Who asks for what, and must be refused.
    asked: (&'static str, &'static str),
}

const CASES: [Case; 3] = [
    Case {
        law: "a malformed CIDR",
        yaml: "apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: bad-cidr, namespace: shop}
spec:
  selector: {matchLabels: {app: files}}
  action: ALLOW
  rules:
  - from:
    - source: {ipBlocks: [10.77.1.999/32]}
",
        object: "bad-cidr",
        field: "spec.rules[0].from[0].source.ipBlocks",
        asked: ("shop/client-a", "http://files/"),
    },
    Case {
        law: "an unknown field (`form:` for `from:`)",
        yaml: "apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: misspelt, namespace: shop}
spec:
  selector: {matchLabels: {app: files}}
  action: ALLOW
  rules:
  - form:
    - source: {principals: [cluster.local/ns/shop/sa/nobody]}
",
        object: "misspelt",
        field: "spec.rules[0]",
        asked: ("shop/client-a", "http://files/"),
    },
    Case {
        law: "an L7 rule where no waypoint stands",
        yaml: "apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: needs-http, namespace: shop}
spec:
  selector: {matchLabels: {app: files}}
  action: ALLOW
  rules:
  - to:
    - operation: {methods: [GET]}
",
        object: "needs-http",
        field: "spec",
        asked: ("shop/client-a", "http://files/"),
    },
];

/// Each bad object alone, then a half-written file.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    for case in &CASES {
        if point.step(case.law, bench.write(FILE, case.yaml)).is_none() {
            continue;
        }
        refused(bench, point, case).await;
        checked(bench, point, case).await;
        reported(bench, point, case).await;
        point.step("the file is removed", bench.remove(FILE));
        recovers(bench, point).await;
    }
    half_written(bench, point).await;
}

async fn refused(bench: &Bench, point: &mut Point, case: &Case) {
    let (pod, url) = case.asked;
    let refused = || async { bench.curl(pod, &[url]).await.is_ok_and(|answer| answer.status != 200) };
    let refused = bench.until(Duration::from_secs(5), refused).await;
    let law = format!("{} allows nobody", case.law);
    point.assert(&law, "refused", if refused { "refused" } else { "answered" }, refused);
}

/// `weft check` names file, line, object and field, and exits with 2.
async fn checked(bench: &Bench, point: &mut Point, case: &Case) {
    let law = format!("{} is found by `weft check`", case.law);
    let config = bench.world.settings().config.display().to_string();
    let Some(finished) = point.step(&law, bench.weft(&["check", &config]).await) else {
        return;
    };
    let line = finished
        .stdout
        .lines()
        .find(|line| line.contains(case.object))
        .unwrap_or("not found");
    let pass = finished.code == Some(2) && line.contains(FILE) && line.contains(case.field);
    let expected = format!("exit 2, {FILE}, {}, {}", case.object, case.field);
    point.assert(&law, expected, format!("exit {:?}: {line}", finished.code), pass);
}

/// The proxy that enforces it reports it.
async fn reported(bench: &Bench, point: &mut Point, case: &Case) {
    let law = format!("{} is among the proxy's problems", case.law);
    let Some(problems) = point.step(&law, bench.admin("ztunnel-node-2", "/problems").await) else {
        return;
    };
    let problem = problems
        .as_array()
        .into_iter()
        .flatten()
        .find(|problem| problem["object"]["name"] == case.object);
    let seen = problem.map_or_else(|| "not found".to_owned(), ToString::to_string);
    let pass = seen.contains(FILE) && seen.contains(case.field);
    point.assert(&law, format!("{FILE}, {}", case.field), seen, pass);
}

async fn recovers(bench: &Bench, point: &mut Point) {
    let answered = || async {
        let answer = bench.curl("shop/client-a", &["http://files/"]).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    let back = bench.until(Duration::from_secs(5), answered).await;
    point.assert(
        "without it all is as before",
        "200",
        if back { "200" } else { "refused" },
        back,
    );
}

/// A file whose first object is whole and whose second is not: neither is applied, what was there stays.
async fn half_written(bench: &Bench, point: &mut Point) {
    const WHOLE: &str = "apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: whole, namespace: shop}
spec:
  selector: {matchLabels: {app: files}}
  action: DENY
  rules: [{}]
---
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: half, namespa";
    if point.step("a half-written file", bench.write(FILE, WHOLE)).is_none() {
        return;
    }
    let law = "a half-written file is reported";
    let told = || async {
        let problems: Result<_, Failure> = bench.admin("ztunnel-node-2", "/problems").await;
        problems.is_ok_and(|problems| problems.to_string().contains(FILE))
    };
    let told = bench.until(Duration::from_secs(5), told).await;
    point.assert(law, FILE, if told { "reported" } else { "not reported" }, told);
    let law = "a half-written file is not applied by halves";
    if let Some(answer) = point.step(law, bench.curl("shop/client-a", &["http://files/"]).await) {
        point.assert(law, "200", answer.phrase(), answer.status == 200);
    }
    point.step("the file is removed", bench.remove(FILE));
}
