//! Tokens and what is made of the API server's word about them, in paused time.

use std::sync::atomic::{AtomicUsize, Ordering};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use k8s_openapi::api::authentication::v1::UserInfo;
use serde_json::{Value, json};
use tokio::time::advance;

use super::*;

/// Says the same of every token, after a while, and counts.
struct Scripted {
    answer: Mutex<Result<TokenReviewStatus, String>>,
    takes: Duration,
    asked: Arc<AtomicUsize>,
}

#[tonic::async_trait]
impl Reviewer for Scripted {
    async fn review(&self, _: &str, audience: &str) -> Result<TokenReviewStatus, String> {
        assert_eq!(audience, "weft-ca");
        self.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(self.takes).await;
        self.answer.lock().unwrap().clone()
    }
}

fn reviews(answer: Result<TokenReviewStatus, String>, takes: Duration) -> (Reviews, Arc<AtomicUsize>) {
    let asked = Arc::<AtomicUsize>::default();
    let reviewer = Scripted {
        answer: Mutex::new(answer),
        takes,
        asked: asked.clone(),
    };
    (Reviews::new(Box::new(reviewer), "weft-ca"), asked)
}

fn seconds() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_secs()).unwrap()
}

fn token(claims: &Value) -> String {
    encode(&Header::new(Algorithm::HS256), claims, &EncodingKey::from_secret(b"x")).unwrap()
}

fn good(id: usize) -> String {
    token(&json!({"iss": "https://kubernetes", "aud": ["weft-ca"], "exp": seconds() + 3600, "jti": id}))
}

fn status(extra: &[(&str, &str)]) -> TokenReviewStatus {
    let extra = extra
        .iter()
        .map(|(key, value)| (format!("authentication.kubernetes.io/{key}"), vec![(*value).to_owned()]));
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec!["weft-ca".to_owned()]),
        error: None,
        user: Some(UserInfo {
            username: Some("system:serviceaccount:weft-system:ztunnel".to_owned()),
            extra: Some(extra.collect()),
            ..UserInfo::default()
        }),
    }
}

const WHOLE: [(&str, &str); 3] = [("pod-name", "ztunnel-x"), ("pod-uid", "u-1"), ("node-name", "node-1")];

async fn ask(reviews: &Reviews, token: &str) -> Result<Proof, TokenError> {
    reviews.proof(token, &Unverified::of(token)?, None).await
}

#[tokio::test(start_paused = true)]
async fn a_hundred_requests_with_one_token_cost_one_review() {
    let (reviews, asked) = reviews(Ok(status(&WHOLE)), Duration::from_millis(50));
    let (reviews, token) = (Arc::new(reviews), good(1));
    let waiting: Vec<_> = (0..100)
        .map(|_| {
            let (reviews, token) = (reviews.clone(), token.clone());
            tokio::spawn(async move { ask(&reviews, &token).await })
        })
        .collect();
    let expected = Proof::Pod(Bound {
        namespace: "weft-system".into(),
        account: "ztunnel".into(),
        pod: "ztunnel-x".into(),
        uid: "u-1".into(),
        node: Some("node-1".into()),
    });
    for one in waiting {
        assert_eq!(one.await.unwrap().unwrap(), expected);
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    // Seconds later the API server is asked again: a deleted pod's token must stop to count.
    advance(FRESH).await;
    ask(&reviews, &token).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_is_away_is_said_so_and_asked_again_a_second_later() {
    let (reviews, asked) = reviews(Err("connection refused".to_owned()), Duration::ZERO);
    let token = good(1);
    for _ in 0..10 {
        let error = ask(&reviews, &token).await.unwrap_err();
        assert_eq!(error, TokenError::Review("connection refused".into()));
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    advance(REST).await;
    ask(&reviews, &token).await.unwrap_err();
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_never_answers_is_given_up() {
    let (reviews, _) = reviews(Ok(status(&WHOLE)), Duration::from_secs(3600));
    assert!(matches!(ask(&reviews, &good(1)).await, Err(TokenError::Review(_))));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_could_accept_is_refused_without_a_review() {
    let (reviews, asked) = reviews(Ok(status(&WHOLE)), Duration::ZERO);
    let claims = |aud: Value, exp: Value| json!({"iss": "https://kubernetes", "aud": aud, "exp": exp});
    for (claims, why) in [
        (
            claims(json!(["https://kubernetes"]), json!(seconds() + 60)),
            "token_audience",
        ),
        (claims(json!("other"), json!(seconds() + 60)), "token_audience"),
        (claims(Value::Null, json!(seconds() + 60)), "token_audience"),
        (claims(json!("weft-ca"), json!(seconds() - 60)), "token_time"),
        (claims(json!("weft-ca"), json!(-1)), "token_time"),
        (claims(json!("weft-ca"), Value::Null), "malformed_token"),
        (json!({"aud": "weft-ca"}), "malformed_token"),
    ] {
        assert_eq!(
            ask(&reviews, &token(&claims)).await.unwrap_err().label(),
            why,
            "{claims}"
        );
    }
    assert_eq!(ask(&reviews, "x").await.unwrap_err().label(), "malformed_token");
    assert_eq!(asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn strangers_with_ever_new_tokens_cannot_keep_the_api_server_busy() {
    let rejected = TokenReviewStatus {
        authenticated: Some(false),
        error: Some("invalid bearer token".to_owned()),
        ..TokenReviewStatus::default()
    };
    let (reviews, asked) = reviews(Ok(rejected), Duration::ZERO);
    let mut refused = 0;
    for id in 0..1000 {
        match ask(&reviews, &good(id)).await.unwrap_err() {
            TokenError::NotAuthenticated(why) => assert_eq!(&*why, "invalid bearer token"),
            TokenError::TooMany => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1000 - refused);
    assert!(refused >= 900, "{refused}");
    // Others are served meanwhile.
    let from = Some("10.0.0.9:1".parse().unwrap());
    let token = good(5000);
    let answer = reviews.proof(&token, &Unverified::of(&token).unwrap(), from).await;
    assert!(matches!(answer, Err(TokenError::NotAuthenticated(_))), "{answer:?}");
}

#[test]
fn only_a_pods_token_for_our_audience_proves_somebody() {
    let change = |change: fn(&mut TokenReviewStatus)| {
        let mut status = status(&WHOLE);
        change(&mut status);
        bound(&status, "weft-ca")
    };
    let nameless = status(&WHOLE[..2]);
    assert_eq!(bound(&nameless, "weft-ca").unwrap().node, None);
    for (answer, why) in [
        (change(|it| it.authenticated = Some(false)), "token_not_authenticated"),
        (change(|it| it.authenticated = None), "token_not_authenticated"),
        (change(|it| it.audiences = None), "token_audience"),
        (
            change(|it| it.audiences = Some(vec!["api".to_owned()])),
            "token_audience",
        ),
        (change(|it| it.user = None), "token_not_bound"),
        (
            change(|it| it.user.as_mut().unwrap().username = Some("system:node:node-1".to_owned())),
            "token_not_bound",
        ),
        // A legacy token of a Secret has no pod.
        (change(|it| it.user.as_mut().unwrap().extra = None), "token_not_bound"),
        (
            change(|it| {
                let extra = it.user.as_mut().unwrap().extra.as_mut().unwrap();
                extra.get_mut(POD_UID).unwrap().push("u-2".to_owned());
            }),
            "token_not_bound",
        ),
        (
            bound(&status(&[("pod-name", "x"), ("pod-uid", "")]), "weft-ca"),
            "token_not_bound",
        ),
    ] {
        assert_eq!(answer.unwrap_err().label(), why);
    }
}
