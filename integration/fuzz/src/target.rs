//! The targets by name.

use act::{config::kubernetes, hbone, resolve, tls};
use ztunnel::{dns, zds};

use super::parsers;

/// One way in.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// What it is called, and the folder of its inputs.
    pub name: &'static str,
    /// Takes one input.
    pub run: fn(&[u8]),
}

/// All of them, those of HTTP/2 first.
pub const TARGETS: [Target; 15] = [
    target("http2-server", hbone::fuzzing::server),
    target("http2-client", hbone::fuzzing::client),
    target("connect", hbone::fuzzing::heads),
    target("records", tls::fuzzing::records),
    target("zds", zds::fuzzing::packet),
    target("handover", parsers::handover),
    target("dns-query", dns::fuzzing::query),
    target("dns-answer", resolve::fuzzing::answer),
    target("cni-call", parsers::cni_call),
    target("cni-ask", parsers::cni_ask),
    target("configuration", parsers::configuration),
    target("watch", kubernetes::fuzzing::watch),
    target("token", parsers::token),
    target("csr", parsers::csr),
    target("path", parsers::path),
];

const fn target(name: &'static str, run: fn(&[u8])) -> Target {
    Target { name, run }
}

/// The one of this name.
pub fn named(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
