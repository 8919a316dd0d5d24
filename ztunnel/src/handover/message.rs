//! The messages, and what makes one well-formed. Pure.

use std::sync::Arc;

use decide::model::ports::{self, DNS};
use prost::Message;

use crate::zds::{MAX_PACKET, ROOM};

/// The only version there is.
const V1: u32 = 1;

/// What a younger ztunnel asks of an elder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// The first: who asks. A higher number started later.
    Hello(u64),
    /// The listening sockets of this pod, in the network namespace with this inode.
    Want(Arc<str>, u64),
    /// The younger accepts for this pod now, on the sockets with these inodes.
    Taken(Arc<str>, Vec<u64>),
    /// Whether everything the elder accepts for has been taken.
    Done,
    /// The younger is to stop: whether the elder goes on in its stead.
    Leave,
}

/// What the elder answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// So be it.
    Ok,
    /// No, and why.
    No(String),
    /// Sockets beside the packet, with their ports, in order: those that listen, and those that take DNS queries.
    Offer(Vec<u16>),
}

/// Why a packet is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than [`MAX_PACKET`].
    #[error("the packet is longer than {MAX_PACKET} bytes")]
    TooLong,
    /// No protobuf of the kind expected, or a kind that we do not know.
    #[error("the packet is no {0}")]
    Undecodable(&'static str),
    /// A field that must be there is missing or empty.
    #[error("the message lacks {0}")]
    Missing(&'static str),
    /// Another number of descriptors than belong to it.
    #[error("the message came with {got} file descriptors, {wanted} expected")]
    Descriptors {
        /// How many came.
        got: usize,
        /// How many belong to it.
        wanted: usize,
    },
    /// A port that is not the mesh's, one twice too often, or none.
    #[error("the offer names ports {0:?}")]
    Ports(Vec<u32>),
    /// More sockets than there may be.
    #[error("{0} sockets of one pod are named")]
    Sockets(usize),
    /// A version we do not speak.
    #[error("version {0} of the hand-over is not ours: version {V1}")]
    Version(u32),
}

impl Request {
    /// The packet of this request. `id` is repeated by its answer.
    ///
    /// # Errors
    /// [`Malformed::TooLong`].
    pub fn encode(&self, id: u32) -> Result<Vec<u8>, Malformed> {
        let asks = match self {
            Self::Hello(number) => wire::Asks::Hello(wire::Hello {
                version: V1,
                number: *number,
            }),
            Self::Want(uid, netns) => wire::Asks::Want(wire::Want {
                uid: uid.to_string(),
                netns: *netns,
            }),
            Self::Taken(uid, sockets) => wire::Asks::Taken(wire::Taken {
                uid: uid.to_string(),
                sockets: sockets.clone(),
            }),
            Self::Done => wire::Asks::Done(wire::Nothing {}),
            Self::Leave => wire::Asks::Leave(wire::Nothing {}),
        };
        sized(wire::Request { id, asks: Some(asks) }.encode_to_vec())
    }

    /// The request in a packet, and its number.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(packet: &[u8], descriptors: usize) -> Result<(u32, Self), Malformed> {
        bounded(packet, descriptors, 0)?;
        let message = wire::Request::decode(packet).map_err(|_| Malformed::Undecodable("request"))?;
        let request = match message.asks.ok_or(Malformed::Undecodable("known request"))? {
            wire::Asks::Hello(hello) if hello.version != V1 => return Err(Malformed::Version(hello.version)),
            wire::Asks::Hello(hello) => Self::Hello(hello.number),
            wire::Asks::Want(want) => Self::Want(filled(&want.uid)?, want.netns),
            wire::Asks::Taken(taken) if taken.sockets.len() >= ROOM => {
                return Err(Malformed::Sockets(taken.sockets.len()));
            }
            wire::Asks::Taken(taken) => Self::Taken(filled(&taken.uid)?, taken.sockets),
            wire::Asks::Done(wire::Nothing {}) => Self::Done,
            wire::Asks::Leave(wire::Nothing {}) => Self::Leave,
        };
        Ok((message.id, request))
    }
}

impl Answer {
    /// The packet of this answer to the request `id`; a reason is cut to what fits.
    ///
    /// # Errors
    /// [`Malformed::TooLong`].
    pub fn encode(&self, id: u32) -> Result<Vec<u8>, Malformed> {
        let says = match self {
            Self::Ok => wire::Says::Ok(wire::Nothing {}),
            Self::No(why) => {
                // the fields around it take at most 16 bytes of the packet
                let end = why.floor_char_boundary(MAX_PACKET - 16);
                wire::Says::No(why.get(..end).unwrap_or_default().to_owned())
            }
            Self::Offer(ports) => wire::Says::Offer(wire::Offer {
                ports: ports.iter().copied().map(u32::from).collect(),
            }),
        };
        sized(wire::Answer { id, says: Some(says) }.encode_to_vec())
    }

    /// The answer in a packet, and the number of the request it is to.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(packet: &[u8], descriptors: usize) -> Result<(u32, Self), Malformed> {
        let message = wire::Answer::decode(packet).map_err(|_| Malformed::Undecodable("answer"))?;
        let answer = match message.says.ok_or(Malformed::Undecodable("known answer"))? {
            wire::Says::Ok(wire::Nothing {}) => Self::Ok,
            wire::Says::No(why) => Self::No(why),
            wire::Says::Offer(offer) => Self::Offer(offered(offer.ports)?),
        };
        let wanted = match &answer {
            Self::Offer(ports) => ports.len(),
            Self::Ok | Self::No(_) => 0,
        };
        bounded(packet, descriptors, wanted)?;
        Ok((message.id, answer))
    }
}

/// A port may be named twice: two sockets share it where a hand-over was missed once.
fn offered(ports: Vec<u32>) -> Result<Vec<u16>, Malformed> {
    let known = |port: &u32| {
        u16::try_from(*port)
            .ok()
            .filter(|port| ports::is_ours(*port) || *port == DNS)
    };
    let known: Option<Vec<u16>> = ports.iter().map(known).collect();
    match known {
        Some(known) if (1..ROOM).contains(&known.len()) => Ok(known),
        _ => Err(Malformed::Ports(ports)),
    }
}

fn bounded(packet: &[u8], got: usize, wanted: usize) -> Result<(), Malformed> {
    if packet.len() > MAX_PACKET {
        return Err(Malformed::TooLong);
    }
    if got != wanted {
        return Err(Malformed::Descriptors { got, wanted });
    }
    Ok(())
}

fn sized(packet: Vec<u8>) -> Result<Vec<u8>, Malformed> {
    if packet.len() > MAX_PACKET {
        return Err(Malformed::TooLong);
    }
    Ok(packet)
}

fn filled(uid: &str) -> Result<Arc<str>, Malformed> {
    if uid.is_empty() {
        return Err(Malformed::Missing("uid"));
    }
    Ok(uid.into())
}

/// The protobuf messages as they are on the wire.
mod wire {
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Request {
        #[prost(uint32, tag = "1")]
        pub(super) id: u32,
        #[prost(oneof = "Asks", tags = "2, 3, 4, 5, 6")]
        pub(super) asks: Option<Asks>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub(super) enum Asks {
        #[prost(message, tag = "2")]
        Hello(Hello),
        #[prost(message, tag = "3")]
        Want(Want),
        #[prost(message, tag = "4")]
        Taken(Taken),
        #[prost(message, tag = "5")]
        Done(Nothing),
        #[prost(message, tag = "6")]
        Leave(Nothing),
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Answer {
        #[prost(uint32, tag = "1")]
        pub(super) id: u32,
        #[prost(oneof = "Says", tags = "2, 3, 4")]
        pub(super) says: Option<Says>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub(super) enum Says {
        #[prost(message, tag = "2")]
        Ok(Nothing),
        #[prost(string, tag = "3")]
        No(String),
        #[prost(message, tag = "4")]
        Offer(Offer),
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub(super) struct Hello {
        #[prost(uint32, tag = "1")]
        pub(super) version: u32,
        #[prost(uint64, tag = "2")]
        pub(super) number: u64,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Want {
        #[prost(string, tag = "1")]
        pub(super) uid: String,
        #[prost(uint64, tag = "2")]
        pub(super) netns: u64,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Taken {
        #[prost(string, tag = "1")]
        pub(super) uid: String,
        #[prost(uint64, repeated, tag = "2")]
        pub(super) sockets: Vec<u64>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Offer {
        #[prost(uint32, repeated, tag = "1")]
        pub(super) ports: Vec<u32>,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub(super) struct Nothing {}
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_encoded_is_decoded() {
        for request in [
            Request::Hello(7),
            Request::Want("u".into(), u64::MAX),
            Request::Taken("u".into(), vec![1, u64::MAX]),
            Request::Taken("u".into(), vec![]),
            Request::Done,
            Request::Leave,
        ] {
            let packet = request.encode(3).unwrap();
            assert_eq!(Request::decode(&packet, 0), Ok((3, request.clone())));
            let stray = Malformed::Descriptors { got: 1, wanted: 0 };
            assert_eq!(Request::decode(&packet, 1), Err(stray), "{request:?}");
        }
        for (answer, descriptors) in [
            (Answer::Ok, 0),
            (Answer::No("why".to_owned()), 0),
            (Answer::Offer(vec![15001, 15006, 15008, 15008, 15053, 15053]), 6),
        ] {
            let packet = answer.encode(9).unwrap();
            assert_eq!(Answer::decode(&packet, descriptors), Ok((9, answer.clone())));
            let got = descriptors + 1;
            assert!(Answer::decode(&packet, got).is_err(), "{answer:?} with {got}");
        }
    }

    #[test]
    fn only_the_meshs_ports_are_offered_and_only_as_many_as_there_is_room_for() {
        for ports in [vec![], vec![80], vec![15001, 22], vec![15008; ROOM]] {
            let packet = Answer::Offer(ports.clone()).encode(1).unwrap();
            assert!(
                matches!(Answer::decode(&packet, ports.len()), Err(Malformed::Ports(_))),
                "{ports:?}"
            );
        }
    }

    #[test]
    fn another_version_an_unknown_request_and_an_empty_uid_are_refused() {
        let hello = |version| {
            let asks = wire::Asks::Hello(wire::Hello { version, number: 1 });
            wire::Request {
                id: 1,
                asks: Some(asks),
            }
            .encode_to_vec()
        };
        assert_eq!(Request::decode(&hello(2), 0), Err(Malformed::Version(2)));
        assert_eq!(Request::decode(&hello(0), 0), Err(Malformed::Version(0)));
        assert_eq!(Request::decode(b"", 0), Err(Malformed::Undecodable("known request")));
        assert_eq!(
            Request::decode(b"\x7a\x00", 0),
            Err(Malformed::Undecodable("known request"))
        );
        let many = Request::Taken("u".into(), vec![1; ROOM]).encode(1).unwrap();
        assert_eq!(Request::decode(&many, 0), Err(Malformed::Sockets(ROOM)));
        let empty = Request::Taken("".into(), vec![]).encode(1).unwrap();
        assert_eq!(Request::decode(&empty, 0), Err(Malformed::Missing("uid")));
        let long = Request::Taken("u".repeat(MAX_PACKET).into(), vec![]);
        assert_eq!(long.encode(1), Err(Malformed::TooLong));
    }

    proptest! {
        #[test]
        fn no_packet_panics(packet in prop::collection::vec(any::<u8>(), 0..1100), descriptors in 0_usize..9) {
            let _ = Request::decode(&packet, descriptors);
            let _ = Answer::decode(&packet, descriptors);
        }

        #[test]
        fn a_reason_fits_its_packet(why in ".{0,2000}") {
            let packet = Answer::No(why.clone()).encode(u32::MAX).unwrap();
            let Ok((_, Answer::No(told))) = Answer::decode(&packet, 0) else { panic!("no answer") };
            prop_assert!(why.starts_with(&told));
        }
    }
}
