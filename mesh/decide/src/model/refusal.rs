//! Why not: every reason for which the mesh refuses a connection or request.

use std::{fmt, net::SocketAddr, sync::Arc};

use serde::Serialize;

use super::{Identity, ObjectRef, ServiceKey, WaypointKey};

/// The object and field that decided.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Decider {
    /// The object.
    pub object: ObjectRef,
    /// The field, such as `spec.rules[1]`; empty: the object as a whole.
    pub field: Arc<str>,
}

/// Why a connection or request is refused. Each knows its HTTP status, its label and one plain sentence.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub enum Refusal {
    /// A policy denies it: a DENY matched, or ALLOW policies exist and none permits it (then by any of them).
    Denied(Decider),
    /// STRICT mutual TLS, and the client spoke plaintext.
    PlaintextRefused(Option<Decider>),
    /// A policy needs HTTP to decide, and this path has no waypoint.
    WaypointRequired(Decider),
    /// The waypoint that must be passed has no ready pod, or does not exist.
    WaypointUnavailable(WaypointKey),
    /// A waypoint was asked for something that is not bound to it.
    NotBound(SocketAddr),
    /// A proxy was asked for an address that is not its pod's.
    NotOurs(SocketAddr),
    /// A port of the mesh itself.
    ReservedPort(u16),
    /// Something in the CONNECT or HTTP head cannot be understood.
    Malformed(Arc<str>),
    /// The head of a request is beyond a bound: which.
    HeadTooLarge(Arc<str>),
    /// No object explains the address, though it lies in the pod or service ranges.
    UnknownAddress(SocketAddr),
    /// The destination is outside the mesh, and the mesh allows only what it knows.
    OutsideRegistry(SocketAddr),
    /// The Service has no such port.
    NoSuchPort(ServiceKey, u16),
    /// The Service has no ready endpoint.
    NoEndpoint(ServiceKey),
    /// The ExternalService has no such port.
    NoExternalPort(ServiceKey, u16),
    /// The ExternalService has nothing that its connections can go to now.
    NoExternalEndpoint(ServiceKey, Arc<str>),
    /// The ExternalService cannot be read, so that nobody knows where its connections should go.
    BrokenDestination(Decider),
    /// No route rule of the Service matches: 404 by Gateway API.
    NoRoute(ServiceKey),
    /// The route rule that matches cannot be honoured: 500 by Gateway API.
    BrokenRoute(Decider, Arc<str>),
    /// The configuration is not complete yet.
    NotConfigured,
    /// No valid certificate for our own identity.
    NoCertificate(Identity, Arc<str>),
    /// The peer is not who it should be, or its handshake failed.
    PeerNotVerified(Arc<str>),
    /// The destination could not be connected.
    ConnectFailed(SocketAddr, Arc<str>),
    /// A deadline passed: which.
    DeadlineExceeded(Arc<str>),
    /// A bound is reached: which.
    Overloaded(Arc<str>),
    /// The other proxy refused, with this status and its own words.
    RefusedByPeer(u16, Arc<str>),
    /// Shutting down.
    Draining,
}

impl Refusal {
    /// The HTTP status of a refused CONNECT or request.
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed(_) | Self::NotOurs(_) | Self::ReservedPort(_) | Self::NotBound(_) => 400,
            Self::Denied(_) | Self::PlaintextRefused(_) | Self::WaypointRequired(_) => 403,
            Self::NoRoute(_) => 404,
            Self::HeadTooLarge(_) => 431,
            Self::BrokenRoute(..) => 500,
            Self::OutsideRegistry(_) | Self::PeerNotVerified(_) => 502,
            Self::WaypointUnavailable(_)
            | Self::UnknownAddress(_)
            | Self::NoSuchPort(..)
            | Self::NoEndpoint(_)
            | Self::NoExternalPort(..)
            | Self::NoExternalEndpoint(..)
            | Self::BrokenDestination(_)
            | Self::NotConfigured
            | Self::NoCertificate(..)
            | Self::ConnectFailed(..)
            | Self::Overloaded(_)
            | Self::Draining => 503,
            Self::DeadlineExceeded(_) => 504,
            Self::RefusedByPeer(status, _) => *status,
        }
    }

    /// The gRPC code of a refused call, as other proxies translate the status; a deadline is told as one.
    pub fn grpc_code(&self) -> u8 {
        match self.status() {
            401 => 16,
            403 => 7,
            404 => 12,
            504 => 4,
            429 | 502 | 503 => 14,
            _ => 13,
        }
    }

    /// Value of the metric label `response_flags` and of `refusal` in logs.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Denied(_) => "DENY",
            Self::PlaintextRefused(_) => "PLAINTEXT_REFUSED",
            Self::WaypointRequired(_) => "WAYPOINT_REQUIRED",
            Self::WaypointUnavailable(_) => "WAYPOINT_UNAVAILABLE",
            Self::NotBound(_) => "NOT_BOUND",
            Self::NotOurs(_) => "NOT_OURS",
            Self::ReservedPort(_) => "RESERVED_PORT",
            Self::Malformed(_) => "MALFORMED",
            Self::HeadTooLarge(_) => "HEAD_TOO_LARGE",
            Self::UnknownAddress(_) => "UNKNOWN_ADDRESS",
            Self::OutsideRegistry(_) => "OUTSIDE_REGISTRY",
            Self::NoSuchPort(..) | Self::NoExternalPort(..) => "NO_SUCH_PORT",
            Self::NoEndpoint(_) | Self::NoExternalEndpoint(..) => "NO_ENDPOINT",
            Self::BrokenDestination(_) => "BROKEN_DESTINATION",
            Self::NoRoute(_) => "NO_ROUTE",
            Self::BrokenRoute(..) => "BROKEN_ROUTE",
            Self::NotConfigured => "NOT_CONFIGURED",
            Self::NoCertificate(..) => "IDENTITY_ERROR",
            Self::PeerNotVerified(_) => "TLS_FAILURE",
            Self::ConnectFailed(..) => "CONNECT",
            Self::DeadlineExceeded(_) => "DEADLINE",
            Self::Overloaded(_) => "OVERLOADED",
            Self::RefusedByPeer(..) => "REFUSED_BY_PEER",
            Self::Draining => "DRAINING",
        }
    }

    /// The object and field that decided, where one did.
    pub fn decider(&self) -> Option<&Decider> {
        match self {
            Self::Denied(by) | Self::WaypointRequired(by) | Self::BrokenRoute(by, _) | Self::BrokenDestination(by) => {
                Some(by)
            }
            Self::PlaintextRefused(by) => by.as_ref(),
            _ => None,
        }
    }
}

impl fmt::Display for Decider {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.field {
            "" => write!(out, "{}", self.object),
            field => write!(out, "{} {field}", self.object),
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(by) => write!(out, "denied by {by}"),
            Self::PlaintextRefused(Some(by)) => write!(out, "plaintext refused: mutual TLS is STRICT by {by}"),
            Self::PlaintextRefused(None) => write!(out, "plaintext refused: mutual TLS is STRICT"),
            Self::WaypointRequired(by) => {
                write!(
                    out,
                    "{by} needs HTTP to decide, and no waypoint is on this path; bind one by weft.dev/use-waypoint"
                )
            }
            Self::WaypointUnavailable(key) => write!(out, "waypoint {key} has no ready pod"),
            Self::NotBound(address) => write!(out, "{address} is not bound to this waypoint"),
            Self::NotOurs(address) => write!(out, "{address} is no address of this pod"),
            Self::ReservedPort(port) => write!(out, "port {port} belongs to the mesh itself"),
            Self::Malformed(what) => write!(out, "malformed: {what}"),
            Self::HeadTooLarge(bound) => write!(out, "the request's head is too large: {bound}"),
            Self::UnknownAddress(address) => write!(out, "no pod or Service explains {address}"),
            Self::OutsideRegistry(address) => write!(
                out,
                "{address} is outside the mesh, and MeshConfig allows only what it knows"
            ),
            Self::NoSuchPort(service, port) => write!(out, "Service {service} has no port {port}"),
            Self::NoEndpoint(service) => write!(out, "Service {service} has no ready endpoint"),
            Self::NoExternalPort(service, port) => write!(out, "ExternalService {service} has no port {port}"),
            Self::NoExternalEndpoint(service, why) => {
                write!(out, "ExternalService {service} has no endpoint to connect to: {why}")
            }
            Self::BrokenDestination(by) => {
                write!(
                    out,
                    "{by} cannot be read, so that nobody knows where its connections should go"
                )
            }
            Self::NoRoute(service) => write!(out, "no route rule of Service {service} matches"),
            Self::BrokenRoute(by, why) => write!(out, "{by} cannot be honoured: {why}"),
            Self::NotConfigured => write!(out, "the configuration is not complete yet"),
            Self::NoCertificate(identity, why) => write!(out, "no certificate for {identity}: {why}"),
            Self::PeerNotVerified(why) => write!(out, "the peer is not verified: {why}"),
            Self::ConnectFailed(address, why) => write!(out, "{address} could not be connected: {why}"),
            Self::DeadlineExceeded(what) => write!(out, "deadline exceeded: {what}"),
            Self::Overloaded(what) => write!(out, "overloaded: {what}"),
            Self::RefusedByPeer(status, why) => write!(out, "the other proxy refused with {status}: {why}"),
            Self::Draining => write!(out, "this proxy is shutting down"),
        }
    }
}
