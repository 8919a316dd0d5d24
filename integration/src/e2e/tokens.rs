//! Point 6: whose token gets which identity signed, and whose does not; each refusal is audited.

use std::time::Duration;

use act::process::Failure;
use serde_json::{Value, json};

use super::{
    cluster::Cluster,
    first_request::CLIENT,
    forge,
    manifests::{IMAGE, SHOP},
    mesh::{self, CAS, Mark},
    stage::{MESH, Stage},
    tools::{self, AUDIENCE, token, ztunnel},
};
use crate::{check::Point, world::first_line};

/// A pod of the host's network, a waypoint and its Gateway, both on the first node.
const PODS: &str = include_str!("../../e2e/tokens.yaml");
/// Of the waypoint.
const GATEWAY: &str = "spiffe://cluster.local/ns/e2e-shop/sa/e2e-gateway";
/// Of the pod of the host's network.
const HOST: &str = "spiffe://cluster.local/ns/e2e-shop/sa/e2e-host";

/// One question to the CA.
struct Question {
    law: String,
    token: Result<String, Failure>,
    wanted: String,
    signed: bool,
}

/// Asks every question from a pod outside the mesh.
pub(super) async fn check(stage: &Stage, point: &mut Point) {
    let cluster = &stage.cluster;
    stage.tell("tokens that must not get what they ask for");
    if point.step("pods to ask about", lay(stage).await).is_none() {
        return;
    }
    let found = async {
        let own = ztunnel(cluster, stage.first_node()).await?;
        let other = ztunnel(cluster, stage.last_node()).await?;
        let client = cluster.pod(SHOP, "client").await?;
        Ok((own, other, client))
    };
    let Some((own, other, client)) = point.step("a ztunnel on each node", found.await) else {
        return;
    };
    let mine = token(cluster, MESH, "ztunnel", &own, AUDIENCE).await;
    let forged = forged(stage, &mine);
    let mut questions = Vec::new();
    for (law, pod, wanted, signed) in [
        ("gets the identity of a pod of its node", &own, CLIENT, true),
        ("asks for a pod of another node", &other, CLIENT, false),
        ("asks for a waypoint's service account", &own, GATEWAY, false),
        ("asks for a pod of the host's network", &own, HOST, false),
    ] {
        let token = token(cluster, MESH, "ztunnel", pod, AUDIENCE).await;
        questions.push(question(&format!("a ztunnel's token {law}"), token, wanted, signed));
    }
    let plain = token(cluster, SHOP, "client", &client, AUDIENCE).await;
    let stranger = token(cluster, MESH, "ztunnel", &own, "something-else").await;
    for (law, token) in [
        ("a plain pod's token asks for its own identity", plain),
        ("a ztunnel's token of another audience", stranger),
        ("no token at all, but words", Ok("not.a.token".into())),
    ] {
        questions.push(question(law, token, CLIENT, false));
    }
    match forged {
        Some((living, expired)) => {
            questions.push(question(
                "a token signed by the cluster's key is believed while it lives",
                living,
                CLIENT,
                true,
            ));
            questions.push(question("the same token, expired", expired, CLIENT, false));
        }
        None => stage.not_shown(
            6,
            "an expired token is refused",
            "a token that is expired takes the cluster's own key",
        ),
    }
    for question in questions {
        ask(cluster, point, question).await;
    }
    point.step("the pods go", cluster.delete(&pods(stage)).await);
    point.step("the tools go", tools::remove(cluster).await);
}

fn question(law: &str, token: Result<String, Failure>, wanted: &str, signed: bool) -> Question {
    Question {
        law: law.to_owned(),
        token,
        wanted: wanted.to_owned(),
        signed,
    }
}

async fn ask(cluster: &Cluster, point: &mut Point, question: Question) {
    let law = &*question.law;
    let Some(token) = point.step(law, question.token) else {
        return;
    };
    let mark = Mark::now();
    let asked = tools::sign(cluster, &token, &question.wanted).await;
    let Some(finished) = point.step(law, asked) else {
        return;
    };
    let said = first_line(&finished.stderr);
    let expected = if question.signed { "signed" } else { "refused" };
    let seen = if finished.success() { "signed" } else { said };
    // A CA that is not reached refuses nothing.
    let refused = !finished.success()
        && ["refuse", "denied", "unauthenticated", "not entitled"]
            .iter()
            .any(|word| said.to_lowercase().contains(word));
    point.assert(
        law,
        expected,
        seen,
        if question.signed { finished.success() } else { refused },
    );
    if question.signed {
        return;
    }
    audited(cluster, point, law, &mark).await;
}

async fn audited(cluster: &Cluster, point: &mut Point, law: &str, mark: &Mark) {
    // Who could not be told apart at all wanted nothing yet; so the line is known by where the question came from.
    let from = format!("{}:", tools::address(cluster).await);
    let event = mesh::awaited_event(cluster, CAS, "audit", mark, |event| {
        event.is("decision", "refused") && event.field("from").starts_with(&from)
    });
    let event = event.await;
    let told = event.as_ref().map_or_else(
        || "no audit line".into(),
        |event| format!("{}: {}", event.field("decision"), event.field("reason")),
    );
    let audited = event.is_some_and(|event| !event.field("reason").is_empty());
    point.assert(
        &format!("{law}: audited with its reason"),
        "an audit line",
        told,
        audited,
    );
}

/// A pod to ask from, and pods to ask about.
async fn lay(stage: &Stage) -> Result<(), Failure> {
    let cluster = &stage.cluster;
    tools::lay(cluster).await?;
    cluster.apply(&pods(stage)).await?;
    for pod in ["pod/e2e-host", "pod/e2e-gateway"] {
        let words = ["wait", "--for=condition=Ready", "-n", SHOP, pod, "--timeout=50s"];
        cluster.kubectl(&words).await?;
    }
    Ok(())
}

fn pods(stage: &Stage) -> String {
    PODS.replace("NAMESPACE", SHOP)
        .replace("FIRST_NODE", stage.first_node())
        .replace("IMAGE", IMAGE)
}

/// The same claims signed again by the cluster's own key: living, and expired an hour ago.
fn forged(
    stage: &Stage,
    token: &Result<String, Failure>,
) -> Option<(Result<String, Failure>, Result<String, Failure>)> {
    let key = stage.cluster.reach().token_key()?;
    let again = |shift: i64| match token {
        Ok(token) => forge::again(token, &key, |claims| shifted(claims, shift)),
        Err(failure) => Err(Failure(failure.0.clone())),
    };
    let hour = i64::try_from(Duration::from_secs(3600).as_secs()).unwrap_or(i64::MAX);
    Some((again(0), again(-2 * hour)))
}

/// Moves every time of the claims.
fn shifted(claims: &mut Value, by: i64) {
    for name in ["iat", "nbf", "exp"] {
        if let Some(time) = claims.get(name).and_then(Value::as_i64) {
            claims[name] = json!(time.saturating_add(by));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_of_the_claims_is_moved_and_nothing_else() {
        let mut claims = json!({"iat": 100, "nbf": 100, "exp": 3700, "sub": "a", "warnafter": 7});
        shifted(&mut claims, -50);
        assert_eq!(
            claims,
            json!({"iat": 50, "nbf": 50, "exp": 3650, "sub": "a", "warnafter": 7})
        );
    }
}
