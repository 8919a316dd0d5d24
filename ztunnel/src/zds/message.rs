//! The messages, and what makes one well-formed. Pure.

use std::sync::Arc;

use act::config::is_static_uid;
use prost::Message;

/// Largest packet either side sends or reads, in bytes.
pub const MAX_PACKET: usize = 1024;

/// A pod as the agent announces it (`AddWorkload` without its descriptor).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pod {
    /// Pod UID.
    pub uid: Arc<str>,
    /// Pod name.
    pub name: Arc<str>,
    /// Its namespace in Kubernetes.
    pub namespace: Arc<str>,
    /// Its service account.
    pub service_account: Arc<str>,
}

impl Pod {
    /// Whether it is a static pod: its node knows it by the hash of its manifest, not by its object's UID.
    pub fn is_static(&self) -> bool {
        is_static_uid(&self.uid)
    }
}

/// What the agent asks of the ztunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Serve this pod. The only request that carries a descriptor, and it carries exactly one.
    Add(Pod),
    /// Keep serving the pod with this UID; only before `SnapshotSent`.
    Keep(Arc<str>),
    /// Release the pod with this UID.
    Del(Arc<str>),
    /// Every pod of the node has been told; those that were not are to be released.
    SnapshotSent,
}

/// What the ztunnel answers: done, or why not.
pub type Response = Result<(), String>;

/// Why a packet is no message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than [`MAX_PACKET`].
    #[error("the ZDS packet is longer than {MAX_PACKET} bytes")]
    TooLong,
    /// No protobuf of the kind expected.
    #[error("the ZDS packet is no {0}")]
    Undecodable(&'static str),
    /// A field that must be there is missing or empty.
    #[error("the ZDS message lacks {0}")]
    Missing(&'static str),
    /// A descriptor where none belongs, none where one belongs, or several.
    #[error("the ZDS message came with {got} file descriptors, {wanted} expected")]
    Descriptors {
        /// How many came; of too many, how many were read.
        got: usize,
        /// How many belong to it.
        wanted: usize,
    },
    /// A protocol version we do not speak.
    #[error("the ztunnel speaks ZDS version {0}, this agent only version 1")]
    Version(i32),
}

impl Request {
    /// The packet of this request.
    ///
    /// # Errors
    /// [`Malformed::TooLong`], when names are too long for one packet.
    pub fn encode(&self) -> Result<Vec<u8>, Malformed> {
        let payload = match self {
            Self::Add(pod) => wire::Payload::Add(wire::AddWorkload {
                uid: pod.uid.to_string(),
                info: Some(wire::WorkloadInfo {
                    name: pod.name.to_string(),
                    namespace: pod.namespace.to_string(),
                    service_account: pod.service_account.to_string(),
                }),
            }),
            Self::Keep(uid) => wire::Payload::Keep(wire::Uid { uid: uid.to_string() }),
            Self::Del(uid) => wire::Payload::Del(wire::Uid { uid: uid.to_string() }),
            Self::SnapshotSent => wire::Payload::SnapshotSent(wire::SnapshotSent {}),
        };
        let packet = wire::WorkloadRequest { payload: Some(payload) }.encode_to_vec();
        if packet.len() > MAX_PACKET {
            return Err(Malformed::TooLong);
        }
        Ok(packet)
    }

    /// The request of a packet that came with this many descriptors.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(packet: &[u8], descriptors: usize) -> Result<Self, Malformed> {
        if packet.len() > MAX_PACKET {
            return Err(Malformed::TooLong);
        }
        let message = wire::WorkloadRequest::decode(packet).map_err(|_| Malformed::Undecodable("WorkloadRequest"))?;
        let request = match message.payload.ok_or(Malformed::Missing("a known payload"))? {
            wire::Payload::Add(add) => {
                let info = add.info.ok_or(Malformed::Missing("workload_info"))?;
                Self::Add(Pod {
                    uid: filled(&add.uid, "uid")?,
                    name: filled(&info.name, "workload_info.name")?,
                    namespace: filled(&info.namespace, "workload_info.namespace")?,
                    service_account: info.service_account.into(),
                })
            }
            wire::Payload::Keep(keep) => Self::Keep(filled(&keep.uid, "uid")?),
            wire::Payload::Del(del) => Self::Del(filled(&del.uid, "uid")?),
            wire::Payload::SnapshotSent(_) => Self::SnapshotSent,
        };
        let wanted = usize::from(matches!(request, Self::Add(_)));
        if descriptors != wanted {
            return Err(Malformed::Descriptors {
                got: descriptors,
                wanted,
            });
        }
        Ok(request)
    }
}

/// The packet of an answer; the reason is cut to what fits.
pub(super) fn encode_response(response: &Response) -> Vec<u8> {
    let error = match response {
        Ok(()) => String::new(),
        Err(why) if why.is_empty() => "unknown".to_owned(),
        Err(why) => {
            // the length prefixes take at most 8 bytes of the packet
            let end = why.floor_char_boundary(MAX_PACKET - 8);
            why.get(..end).unwrap_or("unknown").to_owned()
        }
    };
    wire::WorkloadResponse {
        ack: Some(wire::Ack { error }),
    }
    .encode_to_vec()
}

/// The answer in a packet.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode_response(packet: &[u8], descriptors: usize) -> Result<Response, Malformed> {
    without_descriptors(packet, descriptors)?;
    let message = wire::WorkloadResponse::decode(packet).map_err(|_| Malformed::Undecodable("WorkloadResponse"))?;
    let ack = message.ack.ok_or(Malformed::Missing("ack"))?;
    Ok(if ack.error.is_empty() { Ok(()) } else { Err(ack.error) })
}

/// The ztunnel's first packet. `number` is higher the later it started; 0 says nothing.
pub(super) fn encode_hello(number: u64) -> Vec<u8> {
    wire::ZdsHello {
        version: wire::V1,
        number,
    }
    .encode_to_vec()
}

/// The number in the ztunnel's first packet; 0 where it says none.
///
/// # Errors
/// What is wrong with it.
pub(super) fn decode_hello(packet: &[u8], descriptors: usize) -> Result<u64, Malformed> {
    without_descriptors(packet, descriptors)?;
    let hello = wire::ZdsHello::decode(packet).map_err(|_| Malformed::Undecodable("ZdsHello"))?;
    match hello.version {
        wire::V1 => Ok(hello.number),
        other => Err(Malformed::Version(other)),
    }
}

fn without_descriptors(packet: &[u8], descriptors: usize) -> Result<(), Malformed> {
    if packet.len() > MAX_PACKET {
        return Err(Malformed::TooLong);
    }
    if descriptors != 0 {
        return Err(Malformed::Descriptors {
            got: descriptors,
            wanted: 0,
        });
    }
    Ok(())
}

fn filled(value: &str, name: &'static str) -> Result<Arc<str>, Malformed> {
    if value.is_empty() {
        Err(Malformed::Missing(name))
    } else {
        Ok(value.into())
    }
}

/// The protobuf messages as they are on the wire.
mod wire {
    /// The only version there is.
    pub(super) const V1: i32 = 1;

    /// `number` is ours; others skip a field they do not know.
    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub(super) struct ZdsHello {
        #[prost(int32, tag = "1")]
        pub(super) version: i32,
        #[prost(uint64, tag = "1539")]
        pub(super) number: u64,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct WorkloadRequest {
        #[prost(oneof = "Payload", tags = "1, 2, 3, 5")]
        pub(super) payload: Option<Payload>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Oneof)]
    pub(super) enum Payload {
        #[prost(message, tag = "1")]
        Add(AddWorkload),
        #[prost(message, tag = "2")]
        Del(Uid),
        #[prost(message, tag = "3")]
        SnapshotSent(SnapshotSent),
        #[prost(message, tag = "5")]
        Keep(Uid),
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct AddWorkload {
        #[prost(string, tag = "1")]
        pub(super) uid: String,
        #[prost(message, optional, tag = "2")]
        pub(super) info: Option<WorkloadInfo>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct WorkloadInfo {
        #[prost(string, tag = "1")]
        pub(super) name: String,
        #[prost(string, tag = "2")]
        pub(super) namespace: String,
        #[prost(string, tag = "3")]
        pub(super) service_account: String,
    }

    /// `DelWorkload` and `KeepWorkload`.
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Uid {
        #[prost(string, tag = "1")]
        pub(super) uid: String,
    }

    #[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
    pub(super) struct SnapshotSent {}

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct WorkloadResponse {
        #[prost(message, optional, tag = "1")]
        pub(super) ack: Option<Ack>,
    }

    #[derive(Clone, PartialEq, Eq, prost::Message)]
    pub(super) struct Ack {
        #[prost(string, tag = "1")]
        pub(super) error: String,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pod() -> Pod {
        Pod {
            uid: "u".into(),
            name: "n".into(),
            namespace: "s".into(),
            service_account: "a".into(),
        }
    }

    #[test]
    fn the_wire_is_the_fields() {
        assert_eq!(encode_hello(0), [0x08, 0x01]);
        assert_eq!(decode_hello(&encode_hello(7), 0), Ok(7));
        assert_eq!(encode_response(&Ok(())), [0x0a, 0x00]);
        assert_eq!(encode_response(&Err("no".into())), *b"\x0a\x04\x0a\x02no");
        assert_eq!(
            Request::Add(pod()).encode().unwrap(),
            *b"\x0a\x0e\x0a\x01u\x12\x09\x0a\x01n\x12\x01s\x1a\x01a"
        );
        assert_eq!(Request::Del("u".into()).encode().unwrap(), *b"\x12\x03\x0a\x01u");
        assert_eq!(Request::SnapshotSent.encode().unwrap(), *b"\x1a\x00");
        assert_eq!(Request::Keep("u".into()).encode().unwrap(), *b"\x2a\x03\x0a\x01u");
    }

    #[test]
    fn exactly_one_descriptor_on_add_and_none_elsewhere() {
        let add = Request::Add(pod()).encode().unwrap();
        for got in [0, 2, 3] {
            assert_eq!(
                Request::decode(&add, got),
                Err(Malformed::Descriptors { got, wanted: 1 })
            );
        }
        for request in [
            Request::SnapshotSent,
            Request::Del("u".into()),
            Request::Keep("u".into()),
        ] {
            assert_eq!(
                Request::decode(&request.encode().unwrap(), 1),
                Err(Malformed::Descriptors { got: 1, wanted: 0 })
            );
        }
        assert!(decode_hello(&encode_hello(0), 1).is_err());
        assert!(decode_response(&encode_response(&Ok(())), 1).is_err());
    }

    #[test]
    fn what_is_missing_is_named() {
        for (packet, missing) in [
            (&b""[..], "a known payload"),
            (b"\x22\x00", "a known payload"),
            (b"\x0a\x00", "workload_info"),
            (b"\x0a\x02\x12\x00", "uid"),
            (b"\x0a\x05\x0a\x01u\x12\x00", "workload_info.name"),
            (b"\x12\x00", "uid"),
        ] {
            let descriptors = usize::from(packet.first() == Some(&0x0a));
            assert_eq!(
                Request::decode(packet, descriptors),
                Err(Malformed::Missing(missing)),
                "{packet:x?}"
            );
        }
        assert_eq!(decode_response(b"", 0), Err(Malformed::Missing("ack")));
        assert_eq!(decode_hello(b"", 0), Err(Malformed::Version(0)));
        assert_eq!(decode_hello(b"\x08\x02", 0), Err(Malformed::Version(2)));
    }

    #[test]
    fn nothing_longer_than_a_packet_is_sent_or_read() {
        let long = Request::Del("x".repeat(MAX_PACKET).into());
        assert_eq!(long.encode(), Err(Malformed::TooLong));
        assert_eq!(Request::decode(&[0; MAX_PACKET + 1], 0), Err(Malformed::TooLong));
        let reason = encode_response(&Err("ä".repeat(MAX_PACKET)));
        assert!(reason.len() <= MAX_PACKET);
        assert!(decode_response(&reason, 0).unwrap().is_err());
        assert!(
            decode_response(&encode_response(&Err(String::new())), 0)
                .unwrap()
                .is_err()
        );
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(
            uid in "[a-z0-9-]{1,60}", name in "[a-z0-9.-]{1,253}", namespace in "[a-z0-9-]{1,63}", account in "[a-z0-9.-]{0,253}",
        ) {
            let pod = Pod {
                uid: uid.as_str().into(),
                name: name.into(),
                namespace: namespace.into(),
                service_account: account.into(),
            };
            let uid = pod.uid.clone();
            for request in [Request::Add(pod), Request::Del(uid.clone()), Request::Keep(uid)] {
                let descriptors = usize::from(matches!(request, Request::Add(_)));
                prop_assert_eq!(Request::decode(&request.encode().unwrap(), descriptors), Ok(request));
            }
        }

        #[test]
        fn no_packet_panics(packet in prop::collection::vec(any::<u8>(), 0..1100), descriptors in 0_usize..4) {
            let _ = Request::decode(&packet, descriptors);
            let _ = decode_response(&packet, descriptors);
            let _ = decode_hello(&packet, descriptors);
        }

        #[test]
        fn a_reason_is_never_lost(why in ".{1,2000}") {
            let response = decode_response(&encode_response(&Err(why.clone())), 0).unwrap();
            let told = response.unwrap_err();
            prop_assert!(why.starts_with(&told) && !told.is_empty());
        }
    }
}
