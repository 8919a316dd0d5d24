//! An entrance for `make fuzz`, and for the test that tries again what fuzzing has kept. A panic is a finding. No
//! program calls this.

use super::{
    Request,
    message::{decode_hello, decode_response, encode_response},
};

/// A packet of either side, the first byte saying how many descriptors came with it.
pub fn packet(bytes: &[u8]) {
    let Some((descriptors, packet)) = bytes.split_first() else {
        return;
    };
    let descriptors = usize::from(descriptors % 3);
    if let Ok(request) = Request::decode(packet, descriptors) {
        let again = request.encode().map(|packet| Request::decode(&packet, descriptors));
        assert_eq!(again, Ok(Ok(request)));
    }
    if let Ok(response) = decode_response(packet, descriptors) {
        assert_eq!(decode_response(&encode_response(&response), 0), Ok(response));
    }
    let _ = decode_hello(packet, descriptors);
}
