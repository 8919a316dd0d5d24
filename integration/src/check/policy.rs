//! Point 4: policies are enforced where they can be decided, the logs name them, and `weft why` foretells it.

use std::time::Duration;

use super::{Bench, Point, bench::Answer};

/// A rule on workloads that names a client, whichever way the client comes.
const BOTH_WAYS: &str = "apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: no-guests-at-all, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules:
  - from:
    - source: {principals: [cluster.local/ns/shop/sa/guest]}
";

/// A server outside the mesh, behind no waypoint, and who may reach it.
const OUTSIDE: &str = "apiVersion: weft.dev/v1alpha1
kind: ExternalService
metadata: {name: supplier, namespace: shop}
spec:
  hosts: [supplier.example]
  addresses: [240.0.0.8]
  resolution: Static
  ports: [{number: 80, targetPort: 8080}]
  endpoints: [{address: 10.77.2.41}]
---
apiVersion: weft.dev/v1alpha1
kind: AuthorizationPolicy
metadata: {name: supplier-is-for-clients, namespace: shop}
spec:
  targetRefs: [{group: weft.dev, kind: ExternalService, name: supplier}]
  rules:
  - from:
    - source: {principals: [cluster.local/ns/shop/sa/client]}
";

/// One question, what must come of it, and who must say so.
struct Case {
    law: &'static str,
    pod: &'static str,
    url: &'static str,
    wanted: Wanted,
}

#[derive(Clone, Copy)]
enum Wanted {
    Answered,
    /// The connection is refused, by this policy, as both ends' ztunnels log.
    Refused(&'static str),
    /// The connection is refused where it comes from, by this policy, as that ztunnel logs.
    RefusedAtSource(&'static str),
    /// 403, by this policy, as the waypoint logs.
    Forbidden(&'static str),
}

/// By the demo's own policies.
const CASES: [Case; 5] = [
    Case {
        law: "L4: who is not denied is answered",
        pod: "shop/client-a",
        url: "http://orders/",
        wanted: Wanted::Answered,
    },
    Case {
        law: "L4: who is denied is refused the connection",
        pod: "shop/guest",
        url: "http://orders/",
        wanted: Wanted::Refused("AuthorizationPolicy shop/no-guests"),
    },
    Case {
        law: "L7: the one identity may GET /admin",
        pod: "shop/client-a",
        url: "http://web/admin",
        wanted: Wanted::Answered,
    },
    Case {
        law: "L7: nobody else may GET /admin",
        pod: "shop/guest",
        url: "http://web/admin",
        wanted: Wanted::Forbidden("AuthorizationPolicy shop/admin-is-for-clients"),
    },
    Case {
        law: "L7: the rest is everybody's",
        pod: "shop/guest",
        url: "http://web/",
        wanted: Wanted::Answered,
    },
];

/// By [`BOTH_WAYS`].
const CASES_BOTH_WAYS: [Case; 4] = [
    Case {
        law: "the rule refuses through the waypoint",
        pod: "shop/guest",
        url: "http://web/",
        wanted: Wanted::Forbidden(GUESTS),
    },
    Case {
        law: "the rule refuses without a waypoint",
        pod: "shop/guest",
        url: "http://10.77.2.21:9090/",
        wanted: Wanted::Refused(GUESTS),
    },
    Case {
        law: "the rule lets others through the waypoint",
        pod: "shop/client-a",
        url: "http://web/",
        wanted: Wanted::Answered,
    },
    Case {
        law: "the rule lets others in without one",
        pod: "shop/client-a",
        url: "http://10.77.2.21:9090/",
        wanted: Wanted::Answered,
    },
];
/// By [`OUTSIDE`].
const CASES_OUTSIDE: [Case; 2] = [
    Case {
        law: "outside: who is allowed is answered",
        pod: "shop/client-a",
        url: SUPPLIER,
        wanted: Wanted::Answered,
    },
    Case {
        law: "outside: nobody else is",
        pod: "shop/guest",
        url: SUPPLIER,
        wanted: Wanted::RefusedAtSource("AuthorizationPolicy shop/supplier-is-for-clients"),
    },
];
const SUPPLIER: &str = "http://240.0.0.8/";
const GUESTS: &str = "AuthorizationPolicy shop/no-guests-at-all";

/// Every case, then the rule that must hold both ways.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    for asked in &CASES {
        case(bench, point, asked).await;
    }
    let added = bench.write("91-both-ways.yaml", BOTH_WAYS);
    if point.step("a rule that names a client is added", added).is_none() {
        return;
    }
    let guest_gets = |wanted: bool| {
        bench.until(Duration::from_secs(5), move || async move {
            let answer = bench.curl("shop/guest", &["http://web/"]).await;
            answer.is_ok_and(|answer| (answer.status == 200) == wanted)
        })
    };
    let came = guest_gets(false).await;
    point.assert("the rule takes effect", "refused", came, came);
    for asked in &CASES_BOTH_WAYS {
        case(bench, point, asked).await;
    }
    point.step("the rule is removed", bench.remove("91-both-ways.yaml"));
    let gone = guest_gets(true).await;
    point.assert("without the rule all is as before", "answered", gone, gone);
    outside(bench, point).await;
}

/// What goes outside through no waypoint.
async fn outside(bench: &Bench, point: &mut Point) {
    let added = bench.write("92-outside.yaml", OUTSIDE);
    if point
        .step("a policy that targets an ExternalService is added", added)
        .is_none()
    {
        return;
    }
    let answers = || async {
        let answer = bench.curl("shop/client-a", &[SUPPLIER]).await;
        answer.is_ok_and(|answer| answer.status == 200)
    };
    let came = bench.until(Duration::from_secs(5), answers).await;
    point.assert("the ExternalService takes effect", "answered", came, came);
    for asked in &CASES_OUTSIDE {
        case(bench, point, asked).await;
    }
    point.step("the ExternalService is removed", bench.remove("92-outside.yaml"));
}

/// A URL as `weft why` is asked for it.
fn question(url: &str) -> &'static [&'static str] {
    match url {
        "http://orders/" => &["orders.shop:80"],
        "http://web/admin" => &["web.shop:80", "GET", "/admin"],
        "http://web/" => &["web.shop:80", "GET", "/"],
        SUPPLIER => &["240.0.0.8:80"],
        _ => &["10.77.2.21:9090"],
    }
}

async fn case(bench: &Bench, point: &mut Point, case: &Case) {
    let (mut ztunnel, mut source, mut waypoint) = (
        bench.log("ztunnel-node-2"),
        bench.log("ztunnel-node-1"),
        bench.log("shop.waypoint"),
    );
    let Some(answer) = point.step(case.law, bench.curl(case.pod, &[case.url]).await) else {
        return;
    };
    match case.wanted {
        Wanted::Answered => point.assert(case.law, "200", answer.phrase(), answer.status == 200),
        Wanted::Refused(policy) => {
            point.assert(case.law, "no answer", answer.phrase(), answer.refused());
            for (whose, log) in [("server's", &mut ztunnel), ("client's", &mut source)] {
                let law = format!("{}: the {whose} log names the policy", case.law);
                let told = named(log, policy).await;
                point.assert(&law, policy, told.as_deref().unwrap_or("not named"), told.is_some());
            }
        }
        Wanted::RefusedAtSource(policy) => {
            point.assert(case.law, "no answer", answer.phrase(), answer.refused());
            let told = named(&mut source, policy).await;
            let law = format!("{}: the client's log names the policy", case.law);
            point.assert(&law, policy, told.as_deref().unwrap_or("not named"), told.is_some());
        }
        Wanted::Forbidden(policy) => {
            point.assert(case.law, "403", answer.phrase(), answer.status == 403);
            let told = named(&mut waypoint, policy).await;
            let law = format!("{}: the waypoint's log names the policy", case.law);
            point.assert(&law, policy, told.as_deref().unwrap_or("not named"), told.is_some());
        }
    }
    foretold(bench, point, case, &answer).await;
}

/// Whether a refusal in the access log names a policy, and its reason.
async fn named(log: &mut crate::observe::Log, policy: &str) -> Option<String> {
    let mut seen = Vec::new();
    for _ in 0..40 {
        seen.extend(log.events("access"));
        let told = seen.iter().find(|event| {
            !event.field("refusal").is_empty()
                && format!("{} {}", event.field("policy"), event.field("reason")).contains(policy)
        });
        if let Some(event) = told {
            return Some(event.field("reason"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    None
}

async fn foretold(bench: &Bench, point: &mut Point, case: &Case, answer: &Answer) {
    let law = format!("{}: `weft why` foretells it", case.law);
    let words = [&["why", case.pod], question(case.url)].concat();
    let Some(told) = point.step(&law, bench.weft(&words).await) else {
        return;
    };
    let wanted = if answer.status == 200 { 0 } else { 2 };
    let names = match case.wanted {
        Wanted::Answered => true,
        Wanted::Refused(policy) | Wanted::RefusedAtSource(policy) | Wanted::Forbidden(policy) => {
            told.stdout.contains(policy)
        }
    };
    let last = told.stdout.lines().last().unwrap_or(&told.stderr);
    let seen = format!("exit {:?}: {last}", told.code);
    point.assert(
        &law,
        format!("exit {wanted}, and the policy"),
        seen,
        told.code == Some(wanted) && names,
    );
}
