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

/// One question, what must come of it, and who must say so.
struct Case {
    law: &'static str,
    pod: &'static str,
    url: &'static str,
    /// As `weft why` is asked.
    why: &'static [&'static str],
    wanted: Wanted,
}

#[derive(Clone, Copy)]
enum Wanted {
    Answered,
    /// The connection is refused, by this policy, as the server's ztunnel logs.
    Refused(&'static str),
    /// 403, by this policy, as the waypoint logs.
    Forbidden(&'static str),
}

/// Every case, then the rule that must hold both ways.
pub(super) async fn check(bench: &Bench, point: &mut Point) {
    const ADMIN: &str = "AuthorizationPolicy shop/admin-is-for-clients";
    let cases = [
        (
            "L4: who is not denied is answered",
            "client-a",
            "http://orders/",
            Wanted::Answered,
        ),
        (
            "L4: who is denied is refused the connection",
            "guest",
            "http://orders/",
            Wanted::Refused("AuthorizationPolicy shop/no-guests"),
        ),
        (
            "L7: the one identity may GET /admin",
            "client-a",
            "http://web/admin",
            Wanted::Answered,
        ),
        (
            "L7: nobody else may GET /admin",
            "guest",
            "http://web/admin",
            Wanted::Forbidden(ADMIN),
        ),
        ("L7: the rest is everybody's", "guest", "http://web/", Wanted::Answered),
    ];
    for (law, pod, url, wanted) in cases {
        case(
            bench,
            point,
            &Case {
                law,
                pod,
                url,
                why: question(url),
                wanted,
            },
        )
        .await;
    }
    if point
        .step(
            "a rule that names a client is added",
            bench.write("91-both-ways.yaml", BOTH_WAYS),
        )
        .is_none()
    {
        return;
    }
    let came = bench
        .until(Duration::from_secs(5), || async {
            let answer = bench.curl("shop/guest", &["http://web/"]).await;
            answer.is_ok_and(|answer| answer.status != 200)
        })
        .await;
    point.assert("the rule takes effect", "refused", came, came);
    const GUESTS: &str = "AuthorizationPolicy shop/no-guests-at-all";
    let cases = [
        (
            "the rule refuses through the waypoint",
            "guest",
            "http://web/",
            Wanted::Forbidden(GUESTS),
        ),
        (
            "the rule refuses without a waypoint",
            "guest",
            "http://10.77.2.21:9090/",
            Wanted::Refused(GUESTS),
        ),
        (
            "the rule lets others through the waypoint",
            "client-a",
            "http://web/",
            Wanted::Answered,
        ),
        (
            "the rule lets others in without one",
            "client-a",
            "http://10.77.2.21:9090/",
            Wanted::Answered,
        ),
    ];
    for (law, pod, url, wanted) in cases {
        case(
            bench,
            point,
            &Case {
                law,
                pod,
                url,
                why: question(url),
                wanted,
            },
        )
        .await;
    }
    point.step("the rule is removed", bench.remove("91-both-ways.yaml"));
    let gone = bench
        .until(Duration::from_secs(5), || async {
            let answer = bench.curl("shop/guest", &["http://web/"]).await;
            answer.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    point.assert("without the rule all is as before", "answered", gone, gone);
}

fn question(url: &str) -> &'static [&'static str] {
    match url {
        "http://orders/" => &["orders.shop:80"],
        "http://web/admin" => &["web.shop:80", "GET", "/admin"],
        "http://web/" => &["web.shop:80", "GET", "/"],
        _ => &["10.77.2.21:9090"],
    }
}

async fn case(bench: &Bench, point: &mut Point, case: &Case) {
    let (mut ztunnel, mut source, mut waypoint) = (
        bench.log("ztunnel-node-2"),
        bench.log("ztunnel-node-1"),
        bench.log("shop.waypoint"),
    );
    let pod = format!("shop/{}", case.pod);
    let Some(answer) = point.step(case.law, bench.curl(&pod, &[case.url]).await) else {
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
        Wanted::Forbidden(policy) => {
            point.assert(case.law, "403", answer.phrase(), answer.status == 403);
            let told = named(&mut waypoint, policy).await;
            let law = format!("{}: the waypoint's log names the policy", case.law);
            point.assert(&law, policy, told.as_deref().unwrap_or("not named"), told.is_some());
        }
    }
    foretold(bench, point, case, &pod, &answer).await;
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

async fn foretold(bench: &Bench, point: &mut Point, case: &Case, pod: &str, answer: &Answer) {
    let law = format!("{}: `weft why` foretells it", case.law);
    let words = [&["why", pod], case.why].concat();
    let Some(told) = point.step(&law, bench.weft(&words).await) else {
        return;
    };
    let wanted = if answer.status == 200 { 0 } else { 2 };
    let names = match case.wanted {
        Wanted::Answered => true,
        Wanted::Refused(policy) | Wanted::Forbidden(policy) => told.stdout.contains(policy),
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
