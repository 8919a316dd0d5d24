//! Asks a process by its admin socket.

use std::{path::Path, time::Duration};

use act::process::Failure;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, body::Bytes, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::timeout};

/// The longest answer that is read.
const LIMIT: usize = 64 * 1024 * 1024;
/// The longest a question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// `GET path`, answered with the body of a 200.
///
/// # Errors
/// When the socket cannot be reached, or the answer is not a 200: then with its body.
pub async fn admin(socket: &Path, path: &str) -> Result<String, Failure> {
    let failed = |why: &dyn std::fmt::Display| Failure(format!("GET {path} of {}: {why}", socket.display()));
    timeout(PATIENCE, ask(socket, path))
        .await
        .map_err(|_| failed(&"no answer within 5 s"))?
        .map_err(|why| failed(&why))
}

async fn ask(socket: &Path, path: &str) -> Result<String, String> {
    let stream = UnixStream::connect(socket).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let request = Request::get(path)
        .header("host", "weft")
        .body(Empty::<Bytes>::new())
        .map_err(|error| error.to_string())?;
    let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let body = Limited::new(response.into_body(), LIMIT)
        .collect()
        .await
        .map_err(|error| error.to_string())?
        .to_bytes();
    connection.abort();
    let body = String::from_utf8_lossy(&body).into_owned();
    if status.is_success() {
        Ok(body)
    } else {
        Err(format!("{status}: {}", body.trim()))
    }
}
