//! Why a stream or a connection ends (RFC 9113 7).

use std::fmt;

/// An error code as it is on the wire; unknown ones are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::hbone) struct Reason(pub(in crate::hbone) u32);

impl Reason {
    pub(in crate::hbone) const NO_ERROR: Self = Self(0);
    pub(in crate::hbone) const PROTOCOL_ERROR: Self = Self(1);
    pub(in crate::hbone) const FLOW_CONTROL_ERROR: Self = Self(3);
    pub(in crate::hbone) const SETTINGS_TIMEOUT: Self = Self(4);
    pub(in crate::hbone) const STREAM_CLOSED: Self = Self(5);
    pub(in crate::hbone) const FRAME_SIZE_ERROR: Self = Self(6);
    pub(in crate::hbone) const REFUSED_STREAM: Self = Self(7);
    pub(in crate::hbone) const CANCEL: Self = Self(8);
    pub(in crate::hbone) const COMPRESSION_ERROR: Self = Self(9);
    pub(in crate::hbone) const CONNECT_ERROR: Self = Self(10);
    pub(in crate::hbone) const ENHANCE_YOUR_CALM: Self = Self(11);
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match usize::try_from(self.0).ok().and_then(|code| NAMES.get(code)) {
            Some(name) => out.write_str(name),
            None => write!(out, "error code {}", self.0),
        }
    }
}
