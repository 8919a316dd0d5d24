//! What can be wrong between us and an API server.

use std::fmt;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trouble {
    /// It does not answer, or what it says makes no sense; why.
    Unreachable(String),
    /// It answers with an error of its own, code and message.
    Failing(u16, String),
    /// It does not let us.
    Forbidden(String),
    /// It does not know who we are.
    Unknown(String),
    /// It does not serve this kind.
    NotServed,
    /// It does not stream lists.
    NoStreaming(String),
    /// What we want to go on from is too long ago.
    Expired,
}

impl Trouble {
    pub(super) fn of_status(code: u16, message: String) -> Self {
        match code {
            401 => Self::Unknown(message),
            403 => Self::Forbidden(message),
            404 => Self::NotServed,
            410 => Self::Expired,
            400 | 422 => Self::NoStreaming(message),
            code => Self::Failing(code, message),
        }
    }

    pub(super) fn silence() -> Self {
        Self::Unreachable("it says nothing".into())
    }

    pub(super) fn nonsense(error: &serde_json::Error) -> Self {
        Self::Unreachable(format!("what it sent cannot be read: {error}"))
    }

    /// For a metric.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Failing(..) => "failing",
            Self::Forbidden(_) => "forbidden",
            Self::Unknown(_) => "unauthenticated",
            Self::NotServed => "not_served",
            Self::NoStreaming(_) => "no_streaming",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(reason) => write!(out, "does not answer ({reason})"),
            Self::Failing(code, message) => write!(out, "fails ({code}: {message})"),
            Self::Forbidden(message) => write!(out, "forbids it ({message})"),
            Self::Unknown(message) => write!(out, "does not accept this process's credentials ({message})"),
            Self::NotServed => out.write_str("does not serve this kind"),
            Self::NoStreaming(message) => write!(out, "refuses the request ({message})"),
            Self::Expired => out.write_str("does not remember that far back"),
        }
    }
}
