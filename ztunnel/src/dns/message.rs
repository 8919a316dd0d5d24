//! What a query asks, and an answer to it (RFC 1035, EDNS by RFC 6891). Pure.

use std::net::IpAddr;

use hickory_proto::{
    op::{Edns, Message, MessageType, OpCode, Query},
    rr::{DNSClass, RData, Record, RecordType},
};

/// How long an answer may be kept, in seconds: short, because an ExternalService may change.
const LIFE: u32 = 30;
/// Largest answer that we say we can take.
const PAYLOAD: u16 = 1232;

/// One question that may be ours.
#[derive(Debug, Clone)]
pub(super) struct Question {
    asked: Message,
}

impl Question {
    /// Reads a query with one question of the Internet's class. `None`: everything else, which is not ours.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let asked = Message::from_vec(bytes).ok()?;
        let head = &asked.metadata;
        let plain = head.message_type == MessageType::Query && head.op_code == OpCode::Query;
        let [question] = asked.queries.as_slice() else {
            return None;
        };
        (plain && asked.signature.is_none() && question.query_class() == DNSClass::IN).then_some(Self { asked })
    }

    /// The name asked for, with its dot at the end.
    pub(super) fn name(&self) -> Option<String> {
        Some(self.asked.queries.first()?.name().to_ascii())
    }

    /// The answer: those of `addresses` that were asked for. Asked for something else, the name exists and has none:
    /// a denial would be kept by the client, and take the addresses away too.
    pub(super) fn answer(&self, addresses: &[IpAddr]) -> Option<Vec<u8>> {
        let question = self.asked.queries.first()?;
        let mut answer = Message::response(self.asked.metadata.id, OpCode::Query);
        answer.metadata.recursion_desired = self.asked.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.add_query(question.clone());
        answer.add_answers(addresses.iter().filter_map(|address| record(question, *address)));
        if self.asked.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            answer.set_edns(edns);
        }
        answer.to_vec().ok()
    }
}

fn record(question: &Query, address: IpAddr) -> Option<Record> {
    let data = match (question.query_type(), address.to_canonical()) {
        (RecordType::A | RecordType::ANY, IpAddr::V4(address)) => RData::A(address.into()),
        (RecordType::AAAA | RecordType::ANY, IpAddr::V6(address)) => RData::AAAA(address.into()),
        _ => return None,
    };
    Some(Record::from_rdata(question.name().clone(), LIFE, data))
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    use super::*;

    fn query(name: &str, kind: RecordType, edns: bool) -> Vec<u8> {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        if edns {
            message.set_edns(Edns::new());
        }
        message.to_vec().unwrap()
    }

    fn answered(kind: RecordType, edns: bool) -> Message {
        let question = Question::read(&query("API.example.com.", kind, edns)).expect("a question");
        assert_eq!(question.name().as_deref(), Some("API.example.com."));
        let addresses = ["240.0.0.7".parse().unwrap(), "fd00::7".parse().unwrap()];
        Message::from_vec(&question.answer(&addresses).expect("an answer")).expect("a message")
    }

    #[test]
    fn of_the_addresses_those_asked_for_are_answered() {
        for (kind, expected) in [
            (RecordType::A, 1),
            (RecordType::AAAA, 1),
            (RecordType::ANY, 2),
            (RecordType::HTTPS, 0),
            (RecordType::TXT, 0),
        ] {
            let answer = answered(kind, false);
            assert_eq!(answer.answers.len(), expected, "{kind}");
            assert_eq!(answer.metadata.id, 7);
            assert_eq!(answer.metadata.response_code, hickory_proto::op::ResponseCode::NoError);
            assert!(answer.metadata.recursion_desired && answer.metadata.recursion_available);
            assert_eq!(answer.queries.len(), 1);
            assert!(answer.edns.is_none());
        }
    }

    #[test]
    fn who_asks_with_edns_is_answered_with_edns() {
        assert!(answered(RecordType::A, true).edns.is_some());
    }

    #[test]
    fn updates_answers_and_other_classes_are_not_ours() {
        let mut update = query("api.example.com.", RecordType::A, false);
        update[2] |= 5 << 3;
        let mut answer = query("api.example.com.", RecordType::A, false);
        answer[2] |= 0x80;
        let mut chaos = query("api.example.com.", RecordType::A, false);
        *chaos.last_mut().unwrap() = 3;
        for bytes in [update, answer, chaos, Vec::new(), vec![0; 12], vec![0xff; 600]] {
            assert!(Question::read(&bytes).is_none(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_packet_panics(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Some(question) = Question::read(&bytes) {
                let _ = (question.name(), question.answer(&["240.0.0.7".parse().unwrap()]));
            }
        }
    }
}
