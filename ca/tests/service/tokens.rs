//! Which tokens prove somebody.

use act::authority::proto::istio_certificate_service_server::IstioCertificateService;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tonic::Code;

use crate::stage::{ISSUER, Issuer, Stage, claims, raw, request, seconds};

const WEB: &str = "spiffe://cluster.local/ns/shop/sa/web";

async fn status(stage: &Stage, token: Option<&str>) -> tonic::Status {
    let (_, csr) = request(&[]);
    let answer = stage.service.create_certificate(raw(token, &csr, Some(WEB), 0)).await;
    answer.expect_err(token.unwrap_or("no token"))
}

fn node_claims(change: impl FnOnce(&mut Value)) -> Value {
    let mut claims = claims("node-1", "weft-system", "ztunnel", "ztunnel-1");
    change(&mut claims);
    claims
}

/// Tokens by how their claims differ from good ones: where, and what stands there instead (nothing: it is missing).
async fn refused_for(cases: &[(&str, Option<Value>, &str)]) {
    let stage = Stage::new().await;
    for (pointer, value, why) in cases {
        let claims = node_claims(|claims| match value {
            Some(value) => *claims.pointer_mut(pointer).unwrap() = value.clone(),
            None => {
                let (parent, name) = pointer.rsplit_once('/').unwrap();
                claims
                    .pointer_mut(parent)
                    .unwrap()
                    .as_object_mut()
                    .unwrap()
                    .remove(name)
                    .unwrap();
            }
        });
        let status = status(&stage, Some(&stage.issuer.sign(&claims))).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{why}: {status}");
        assert!(status.message().contains(why), "{pointer} {why}: {}", status.message());
    }
}

#[tokio::test]
async fn claims_of_another_time_place_or_purpose_are_refused() {
    refused_for(&[
        ("/exp", Some(json!(seconds() - 60)), "not valid at this time"),
        ("/exp", Some(json!("tomorrow")), "malformed"),
        ("/exp", None, "no claim exp"),
        ("/nbf", Some(json!(seconds() + 60)), "not valid at this time"),
        ("/aud", Some(json!(["kubernetes"])), "audience is another"),
        ("/aud", None, "no claim aud"),
        ("/iss", Some(json!("https://elsewhere")), "is not believed here"),
        ("/iss", Some(json!([ISSUER])), "names no issuer"),
        ("/iss", None, "names no issuer"),
    ])
    .await;
}

#[tokio::test]
async fn tokens_that_are_bound_to_no_pod_or_contradict_themselves_are_refused() {
    refused_for(&[
        (
            "/sub",
            Some(json!("system:serviceaccount:shop:web")),
            "another service account",
        ),
        ("/sub", Some(json!("admin")), "another service account"),
        ("/sub", None, "malformed"),
        ("/kubernetes.io", None, "not bound to a pod"),
        (
            "/kubernetes.io/namespace",
            Some(json!("shop")),
            "another service account",
        ),
        ("/kubernetes.io/pod", None, "names no pod"),
        ("/kubernetes.io/pod/uid", Some(json!("")), "names no pod"),
        ("/kubernetes.io/node", None, "names no node"),
        ("/kubernetes.io/node/name", Some(json!("")), "names no node"),
    ])
    .await;
}

#[tokio::test]
async fn tokens_of_unknown_keys_and_no_tokens_at_all_are_refused() {
    let stage = Stage::new().await;
    let cases = [
        (
            Issuer::new("key-1").sign(&node_claims(|_| {})),
            "signature does not hold",
        ),
        (Issuer::new("key-9").sign(&node_claims(|_| {})), "no ES256 key"),
        (String::new(), "malformed"),
        ("a.b.c".to_owned(), "malformed"),
        ("x".repeat(20_000), "too large"),
    ];
    for (token, why) in cases {
        let status = status(&stage, Some(&token)).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{why}: {status}");
        assert!(status.message().contains(why), "{why}: {}", status.message());
    }
    assert_eq!(status(&stage, None).await.message(), "no bearer token was sent");
}

#[tokio::test]
async fn neither_a_tampered_token_nor_one_without_a_real_signature_counts() {
    let stage = Stage::new().await;
    let token = stage.issuer.node_token("node-1");
    let (header, rest) = token.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    // Somebody else's claims under this signature.
    let other = stage.issuer.node_token("node-2");
    let other_claims = other.split('.').nth(1).unwrap();
    let tampered = format!("{header}.{other_claims}.{signature}");
    // {"alg":"none"}, with and without signature.
    let none = format!("eyJhbGciOiJub25lIn0.{other_claims}.");
    let none_signed = format!("eyJhbGciOiJub25lIn0.{other_claims}.{signature}");
    // An HMAC keyed by what everybody knows: the issuer's public key.
    let mut hmac = Header::new(Algorithm::HS256);
    hmac.kid = Some("key-1".to_owned());
    let public = stage.issuer.jwk()["x"].as_str().unwrap().to_owned();
    let hmac = encode(
        &hmac,
        &node_claims(|_| {}),
        &EncodingKey::from_secret(public.as_bytes()),
    )
    .unwrap();
    // Extensions the signer calls critical.
    let mut critical = Header::new(Algorithm::ES256);
    critical.crit = Some(vec!["b64".to_owned()]);
    let critical = encode(&critical, &node_claims(|_| {}), &stage.issuer.key).unwrap();
    for token in [tampered, none, none_signed, hmac, critical] {
        assert_eq!(
            status(&stage, Some(&token)).await.code(),
            Code::Unauthenticated,
            "{token}"
        );
    }
    // The untouched one does count, and so does one that names no key.
    let nameless = encode(&Header::new(Algorithm::ES256), &node_claims(|_| {}), &stage.issuer.key).unwrap();
    for token in [token, nameless] {
        let (_, csr) = request(&[]);
        stage
            .service
            .create_certificate(raw(Some(&token), &csr, Some(WEB), 0))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_pod_bound_token_of_another_account_is_no_nodes() {
    let stage = Stage::new().await;
    // A pod named like ztunnel's, in another namespace.
    let token = stage.issuer.token("node-1", "shop", "ztunnel", "ztunnel-1");
    assert_eq!(status(&stage, Some(&token)).await.code(), Code::PermissionDenied);
}
