//! Keys of issuers, from files and URLs.

use std::{
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use ca::{
    fetch::Fetch,
    keys::{KeyError, KeySet, Source},
};
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Bytes, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use jsonwebtoken::Algorithm;
use serde_json::json;
use tokio::{net::TcpListener, time::advance};

use crate::stage::{Issuer, LONG};

async fn knows(keys: &KeySet, id: &str) -> Result<usize, KeyError> {
    keys.candidates(Some(id), Algorithm::ES256).await.map(|keys| keys.len())
}

fn set(ids: &[&str]) -> String {
    let keys: Vec<_> = ids.iter().map(|id| Issuer::new(id).jwk()).collect();
    json!({ "keys": keys }).to_string()
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes_and_kept_when_it_breaks() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("jwks.json");
    let keys = KeySet::new(Source::File(file.clone()));
    assert!(matches!(knows(&keys, "a").await, Err(KeyError::Unavailable(_))));
    fs::write(&file, set(&["a"])).unwrap();
    assert_eq!(knows(&keys, "a").await.unwrap(), 1);
    fs::write(&file, set(&["b", "c"])).unwrap();
    assert_eq!(knows(&keys, "b").await.unwrap(), 1);
    assert!(matches!(knows(&keys, "a").await, Err(KeyError::Unknown { .. })));
    for broken in [
        "",
        "{",
        "{\"keys\": []}",
        "{\"keys\": [{\"kty\": \"oct\", \"k\": \"c2VjcmV0\"}]}",
    ] {
        fs::write(&file, broken).unwrap();
        assert_eq!(knows(&keys, "b").await.unwrap(), 1, "{broken}");
    }
    fs::remove_file(&file).unwrap();
    assert_eq!(knows(&keys, "c").await.unwrap(), 1);
}

/// A server of one document on loopback, how often it was asked, and what it answers.
struct Served {
    url: String,
    asked: Arc<AtomicUsize>,
    answer: Arc<Mutex<Option<String>>>,
}

async fn served() -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = Served {
        url: format!("http://{}/keys", listener.local_addr().unwrap()),
        asked: Arc::default(),
        answer: Arc::default(),
    };
    let (asked, answer) = (served.asked.clone(), served.answer.clone());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let (asked, answer) = (asked.clone(), answer.clone());
            let service = service_fn(move |request: hyper::Request<_>| {
                let _: &hyper::body::Incoming = request.body();
                assert_eq!(request.uri().path(), "/keys");
                asked.fetch_add(1, Ordering::SeqCst);
                let response = match answer.lock().unwrap().clone() {
                    Some(text) => Response::new(Full::new(Bytes::from(text))),
                    None => {
                        let mut response = Response::new(Full::new(Bytes::new()));
                        *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                        response
                    }
                };
                async { Ok::<_, hyper::Error>(response) }
            });
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(socket), service));
        }
    });
    served
}

#[tokio::test]
async fn a_url_is_asked_again_for_an_unknown_key_but_not_at_every_token() {
    let served = served().await;
    let keys = KeySet::new(Source::Url(Fetch::new(&served.url, None, None).unwrap()));
    assert!(matches!(knows(&keys, "a").await, Err(KeyError::Unavailable(_))));
    tokio::time::pause();
    advance(std::time::Duration::from_secs(11)).await;
    tokio::time::resume();
    *served.answer.lock().unwrap() = Some(set(&["a"]));
    for _ in 0..10 {
        assert_eq!(knows(&keys, "a").await.unwrap(), 1);
    }
    assert_eq!(served.asked.load(Ordering::SeqCst), 2);
    for _ in 0..10 {
        assert!(matches!(knows(&keys, "b").await, Err(KeyError::Unknown { .. })));
    }
    assert_eq!(served.asked.load(Ordering::SeqCst), 2, "an attempt had just been made");
    *served.answer.lock().unwrap() = Some(set(&["b"]));
    tokio::time::pause();
    advance(std::time::Duration::from_secs(11)).await;
    tokio::time::resume();
    assert_eq!(knows(&keys, "b").await.unwrap(), 1);
    assert_eq!(served.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn keys_that_cannot_be_renewed_stop_to_count_after_an_hour() {
    let served = served().await;
    *served.answer.lock().unwrap() = Some(set(&["a"]));
    let keys = KeySet::new(Source::Url(Fetch::new(&served.url, None, None).unwrap()));
    assert_eq!(knows(&keys, "a").await.unwrap(), 1);
    *served.answer.lock().unwrap() = None;
    for (minutes, known) in [(30, true), (31, false)] {
        tokio::time::pause();
        advance(std::time::Duration::from_secs(minutes * 60)).await;
        tokio::time::resume();
        assert_eq!(knows(&keys, "a").await.is_ok(), known);
    }
    *served.answer.lock().unwrap() = Some("x".repeat(2 << 20));
    tokio::time::pause();
    advance(LONG).await;
    tokio::time::resume();
    assert!(
        matches!(knows(&keys, "a").await, Err(KeyError::Unavailable(_))),
        "a huge answer is no key set"
    );
}
