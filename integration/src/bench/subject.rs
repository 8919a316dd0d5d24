//! Who is measured.

/// What carries the connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Subject {
    /// Nothing: the packets alone.
    Direct,
    /// A pair of HAProxy, mutual TLS 1.3 between them.
    Haproxy,
    /// A pair of Envoy, HBONE between them.
    Envoy,
    /// A pair of ours.
    Weft,
}

impl Subject {
    /// Everyone, in the order of the table.
    pub const ALL: [Self; 4] = [Self::Direct, Self::Haproxy, Self::Envoy, Self::Weft];

    /// Its name in results, which is that of its namespace too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Haproxy => "haproxy",
            Self::Envoy => "envoy",
            Self::Weft => "weft",
        }
    }

    /// A digit of its own in the addresses of its pods and its Service.
    pub(super) fn index(self) -> u8 {
        match self {
            Self::Direct => 1,
            Self::Haproxy => 2,
            Self::Envoy => 3,
            Self::Weft => 4,
        }
    }

    /// Its Service's address.
    pub(super) fn service(self) -> String {
        format!("10.78.0.{}", self.index())
    }

    /// Its server's address.
    pub(super) fn server(self) -> String {
        format!("10.77.2.{}2", self.index())
    }

    /// One of its pods, as the world names it.
    pub(super) fn pod(self, name: &str) -> String {
        format!("{}/{name}", self.name())
    }
}
