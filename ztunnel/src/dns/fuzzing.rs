//! An entrance for `make fuzz`, and for the test that tries again what fuzzing has kept. A panic is a finding. No
//! program calls this.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::message::Question;

/// What a pod sends to port 53.
pub fn query(bytes: &[u8]) {
    let Some(question) = Question::read(bytes) else {
        return;
    };
    let name = question.name().unwrap_or_default();
    let addresses: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    if let Some(answer) = question.answer(&addresses) {
        assert!(answer.len() < 2048, "an answer is bounded");
        assert!(Question::read(&answer).is_none(), "an answer to {name} is no query");
    }
}
