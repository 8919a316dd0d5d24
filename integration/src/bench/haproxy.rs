//! HAProxy as a pair of mutual TLS 1.3: what either end is told.

use std::path::Path;

/// Both ends' frame: two threads, AES-256 as everybody here, patient with what is idle.
const COMMON: &str = "global
  nbthread 2
  maxconn 8000
  ssl-default-bind-ciphersuites TLS_AES_256_GCM_SHA384
  ssl-default-server-ciphersuites TLS_AES_256_GCM_SHA384
defaults
  mode tcp
  timeout connect 10s
  timeout client 1h
  timeout server 1h
";

/// The client's end: 15001 leads to the server's web port, 15002 to its iperf3, 15003 to the web port without ever
/// taking up a TLS session again.
pub(super) fn client(certificates: &Path, server: &str) -> String {
    let home = certificates.display();
    let line = |bind: u16, to: u16, more: &str| {
        format!(
            "listen out{bind}\n  bind :{bind}\n  server s {server}:{to} ssl verify required ca-file {home}/ca.crt \
             crt {home}/client.pem ssl-min-ver TLSv1.3{more}\n"
        )
    };
    [
        COMMON.to_owned(),
        line(15001, 15008, ""),
        line(15002, 15009, ""),
        line(15003, 15010, " no-ssl-reuse"),
    ]
    .concat()
}

/// The server's end.
pub(super) fn server(certificates: &Path) -> String {
    let home = certificates.display();
    let line = |bind: u16, to: u16, more: &str| {
        format!(
            "listen in{bind}\n  bind :{bind} ssl verify required ca-file {home}/ca.crt crt {home}/server.pem \
             ssl-min-ver TLSv1.3{more}\n  server s 127.0.0.1:{to}\n"
        )
    };
    [
        COMMON.to_owned(),
        line(15008, 8080, ""),
        line(15009, 5201, ""),
        line(15010, 8080, " no-tls-tickets"),
    ]
    .concat()
}
