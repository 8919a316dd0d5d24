//! What the plugin asks the agent of its node, one packet each way over a Unix SEQPACKET socket, the sandbox's
//! network namespace as a descriptor beside an `add`. Pure.

use std::{net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Largest packet either side sends, in bytes.
const MOST: usize = 1000;
/// Longest reason in an answer, in bytes.
const LONGEST_WHY: usize = 600;

/// A pod as the container runtime names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodName {
    /// Its namespace in Kubernetes.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Its UID.
    pub uid: Arc<str>,
}

/// What the plugin asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Question {
    /// A sandbox is being made: capture it if it should be.
    Add {
        /// Whose.
        pod: PodName,
        /// The sandbox's ID.
        container: Box<str>,
        /// The addresses it was given.
        addresses: Vec<IpAddr>,
    },
    /// Is it as it should be?
    Check {
        /// Whose.
        pod: PodName,
    },
    /// A sandbox is being removed.
    Del {
        /// Whose.
        pod: PodName,
        /// The sandbox's ID.
        container: Box<str>,
    },
}

/// What the agent answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It is in the mesh.
    Captured,
    /// It is not to be captured.
    NotEnrolled,
    /// It is to be captured, and is not yet.
    Waits {
        /// What it waits for.
        why: String,
    },
    /// The agent does not know this pod yet: the plugin must find out by itself.
    Unknown {
        /// Why not.
        why: String,
    },
}

impl Answer {
    /// [`Answer::Waits`], its reason cut to what fits.
    pub fn waits(why: &str) -> Self {
        Self::Waits { why: cut(why) }
    }

    /// [`Answer::Unknown`], its reason cut to what fits.
    pub fn unknown(why: &str) -> Self {
        Self::Unknown { why: cut(why) }
    }
}

/// The packet of a message; `None` when it does not fit.
pub fn encode(message: &impl Serialize) -> Option<Vec<u8>> {
    serde_json::to_vec(message).ok().filter(|packet| packet.len() <= MOST)
}

/// The message of a packet; `None` when it is none.
pub fn decode<T: DeserializeOwned>(packet: &[u8]) -> Option<T> {
    (packet.len() <= MOST).then(|| serde_json::from_slice(packet).ok())?
}

fn cut(why: &str) -> String {
    // quotes and the like take more bytes in JSON
    let mut size = 0;
    let fits = |letter: &char| {
        size += letter.escape_default().len();
        size <= LONGEST_WHY
    };
    why.chars().take_while(fits).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_longest_names_fit_a_packet() {
        let pod = PodName {
            namespace: "n".repeat(63).into(),
            name: "p".repeat(253).into(),
            uid: "u".repeat(36).into(),
        };
        let question = Question::Add {
            pod,
            container: "c".repeat(64).into(),
            addresses: vec![
                "10.0.0.1".parse().unwrap(),
                "fd00:1111:2222:3333:4444:5555:6666:7777".parse().unwrap(),
            ],
        };
        let packet = encode(&question).unwrap();
        assert_eq!(decode::<Question>(&packet), Some(question));
        assert_eq!(decode::<Answer>(&packet), None);
        assert_eq!(encode(&"x".repeat(MOST)), None);
    }

    proptest! {
        #[test]
        fn every_reason_fits_and_no_packet_panics(why in "\\PC{0,900}", control in "[\u{0}-\u{1f}\"\\\\ü]{0,900}", packet in proptest::collection::vec(any::<u8>(), 0..1200)) {
            prop_assert!(encode(&Answer::waits(&why)).is_some());
            prop_assert!(encode(&Answer::unknown(&control)).is_some());
            let _ = (decode::<Question>(&packet), decode::<Answer>(&packet));
        }
    }
}
