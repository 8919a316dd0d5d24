//! Where the CA is and how it knows us: flags that every proxy shares.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use http::Uri;

/// How a proxy reaches the CA.
#[derive(Debug, Clone, clap::Args)]
pub struct CaOptions {
    /// Address of the CA, `https://HOST:PORT`
    #[arg(
        long,
        env = "WEFT_CA",
        value_name = "URL",
        default_value = "https://ca.weft-system.svc:15012"
    )]
    pub ca: CaAddress,
    /// PEM file with the roots that vouch for the CA itself; read again for every call
    #[arg(
        long,
        env = "WEFT_CA_ROOT",
        value_name = "FILE",
        default_value = "/var/run/weft/ca/root.pem"
    )]
    pub ca_root: PathBuf,
    /// Name in the CA's own certificate, when it is not the host of --ca
    #[arg(long, env = "WEFT_CA_NAME", value_name = "NAME")]
    pub ca_name: Option<String>,
    /// File with the token (JWT) that proves who we are; read again for every call
    #[arg(
        long,
        env = "WEFT_TOKEN",
        value_name = "FILE",
        default_value = "/var/run/secrets/tokens/weft-ca"
    )]
    pub token: PathBuf,
    /// How long certificates should live, 30s to 7d; the CA may give less
    #[arg(long, env = "WEFT_LEAF_LIFE", value_name = "DURATION", default_value = "24h", value_parser = leaf_life)]
    pub leaf_life: Duration,
}

/// Host and port of a CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaAddress {
    /// DNS name or address, without brackets.
    pub host: String,
    /// Port; 15012 where none is written.
    pub port: u16,
}

/// Why a text is no [`CaAddress`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not of the form https://HOST:PORT")]
pub struct NotAnAddress(String);

impl FromStr for CaAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let unfit = || NotAnAddress(text.chars().take(300).collect());
        let uri: Uri = text.parse().map_err(|_| unfit())?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(unfit)?;
        let bare = uri.path() == "/" && uri.query().is_none();
        let authority = uri.authority().map_or("", http::uri::Authority::as_str);
        let port = match authority.strip_prefix(host).ok_or_else(unfit)? {
            "" => 15012,
            port => port
                .strip_prefix(':')
                .and_then(|port| port.parse().ok())
                .ok_or_else(unfit)?,
        };
        if uri.scheme_str() != Some("https") || !bare || port == 0 {
            return Err(unfit());
        }
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
        })
    }
}

impl fmt::Display for CaAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let brackets = if self.host.contains(':') { ["[", "]"] } else { ["", ""] };
        write!(out, "https://{}{}{}:{}", brackets[0], self.host, brackets[1], self.port)
    }
}

/// A leaf's life as flags write it: `90s`, `24h`, `7d`.
///
/// # Errors
/// One plain sentence when it is none, or outside 30 s to 7 d (design 20).
pub fn leaf_life(text: &str) -> Result<Duration, String> {
    let life = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if (Duration::from_secs(30)..=Duration::from_secs(7 * 86_400)).contains(&life) {
        Ok(life)
    } else {
        Err("a certificate lives between 30s and 7d".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_https_and_nothing_else() {
        for (text, written) in [
            ("https://ca.weft-system.svc", "https://ca.weft-system.svc:15012"),
            ("https://10.0.0.1:443/", "https://10.0.0.1:443"),
            ("https://[fd00::1]:15012", "https://[fd00::1]:15012"),
        ] {
            assert_eq!(text.parse::<CaAddress>().unwrap().to_string(), written);
        }
        for text in [
            "",
            "ca:15012",
            "http://ca:15012",
            "https://",
            "https://ca:0",
            "https://ca:99999",
            "https://ca/x",
            "https://user@ca:15012",
        ] {
            text.parse::<CaAddress>().unwrap_err();
        }
    }

    #[test]
    fn lives_are_bounded() {
        assert_eq!(leaf_life("60s").unwrap(), Duration::from_secs(60));
        for text in ["29s", "8d", "forever", ""] {
            leaf_life(text).unwrap_err();
        }
    }
}
