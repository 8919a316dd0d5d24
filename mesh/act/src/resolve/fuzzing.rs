//! An entrance for `make fuzz`, and for the test that tries again what fuzzing has kept. A panic is a finding. No
//! program calls this.

use hickory_proto::op::Message;

use super::ask::{found, name_servers};

/// What a name server answers, and what a `resolv.conf` holds.
pub fn answer(bytes: &[u8]) {
    if let Ok(message) = Message::from_vec(bytes) {
        assert!(found(&message).addresses.len() <= 64);
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        assert!(name_servers(text).len() <= 3);
    }
}
