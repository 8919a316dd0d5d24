//! Targets made of what is public already, and what must hold of what they read.

use std::{sync::Arc, time::Duration};

use act::config::{Change, Feed, admission, document, document::MAX_DOCUMENTS};
use ca::{csr::Csr, token::Unverified};
use decide::{
    model::{Identity, MeshSettings},
    path::normalise,
};
use ztunnel::{
    cni::{Call, Known, ask, conflist},
    handover::{Answer, Request},
};

/// Most bytes of configuration in one input: translation is to be tried, not its size.
const MOST_TEXT: usize = 64 * 1024;

/// A packet between two ztunnels, the first byte saying how many descriptors came with it.
pub(super) fn handover(bytes: &[u8]) {
    let Some((descriptors, packet)) = bytes.split_first() else {
        return;
    };
    let descriptors = usize::from(descriptors % 12);
    if let Ok((id, request)) = Request::decode(packet, descriptors) {
        let again = request.encode(id).map(|packet| Request::decode(&packet, descriptors));
        assert_eq!(again, Ok(Ok((id, request))));
    }
    if let Ok((id, answer)) = Answer::decode(packet, descriptors) {
        let again = answer.encode(id).map(|packet| Answer::decode(&packet, descriptors));
        assert_eq!(again, Ok(Ok((id, answer))));
    }
}

/// A call of the plugin: the first line is `CNI_ARGS`, the rest standard input.
pub(super) fn cni_call(bytes: &[u8]) {
    let mut halves = bytes.splitn(2, |byte| *byte == b'\n');
    let args = String::from_utf8_lossy(halves.next().unwrap_or_default()).into_owned();
    let input = halves.next().unwrap_or_default();
    let variable = |name: &str| match name {
        "CNI_COMMAND" => Some("ADD".to_owned()),
        "CNI_ARGS" => Some(args.clone()),
        _ => None,
    };
    match Call::parse(variable, input) {
        Ok(call) => {
            assert!(call.addresses().len() <= 8);
            let _ = call.result().is_ok();
            let _ = call.pod.as_ref().is_some_and(|pod| call.is_excluded(pod));
        }
        Err(error) => assert!(error.to_json("1.0.0").is_object()),
    }
}

/// A packet between plugin and agent, the agent's own file, and the node's list of plugins.
pub(super) fn cni_ask(bytes: &[u8]) {
    if let Some(question) = ask::decode::<ask::Question>(bytes)
        && let Some(packet) = ask::encode(&question)
    {
        assert_eq!(ask::decode(&packet), Some(question));
    }
    let _ = ask::decode::<ask::Answer>(bytes);
    let _ = serde_json::from_slice::<Known>(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let entry = serde_json::json!({ "type": "weft-cni" });
    if let Ok(with) = conflist::with_entry(text, &entry) {
        assert_eq!(conflist::has_entry(&with), Ok(true));
        assert_eq!(
            conflist::with_entry(&with, &entry).as_ref(),
            Ok(&with),
            "once is enough"
        );
        let without = conflist::without_entry(&with).and_then(|text| conflist::has_entry(&text));
        assert_eq!(without, Ok(false));
    }
    let _ = conflist::wrap(text, &entry);
}

/// A file of configuration, as far as the snapshot.
pub(super) fn configuration(bytes: &[u8]) {
    let bytes = bytes.get(..MOST_TEXT).unwrap_or(bytes);
    let Ok(documents) = document::read(bytes) else { return };
    assert!(documents.len() <= MAX_DOCUMENTS);
    let file: Arc<str> = "fuzz.yaml".into();
    let (mut feed, reader) = Feed::new(MeshSettings::default());
    let admitted: Vec<_> = documents
        .into_iter()
        .filter_map(|document| admission::admit(document, &file))
        .collect();
    let gone = admitted
        .iter()
        .map(|admission| Change::Delete(admission.object.clone()));
    let gone: Vec<_> = gone.collect();
    let there = admitted.into_iter().flat_map(|admission| match admission.ruling {
        admission::Ruling::Admitted(object, origin) => vec![Change::Put(Box::new(object), origin)],
        admission::Ruling::Refused { problems, stand_in } => {
            let stands_in = stand_in.map(|(object, origin)| Change::Put(Box::new(object), origin));
            problems.into_iter().map(Change::Reject).chain(stands_in).collect()
        }
    });
    feed.apply(there.chain([Change::Fences(true), Change::Complete]).collect());
    let snapshot = reader.load();
    assert!(snapshot.complete);
    feed.apply(gone);
    assert_eq!(reader.load().workloads.len(), 0, "what is gone leaves nothing behind");
}

/// What somebody presents as a token, and as an identity.
pub(super) fn token(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(claims) = Unverified::of(text) {
        let _ = claims.could_hold("weft-ca", Duration::from_secs(1_700_000_000));
    }
    if let Ok(identity) = text.parse::<Identity>() {
        assert_eq!(identity.to_string().parse::<Identity>().as_ref(), Ok(&identity));
    }
}

/// A CSR: DER after a byte that is even, else PEM.
pub(super) fn csr(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else {
        return;
    };
    if first % 2 == 1 {
        let _ = Csr::parse(&String::from_utf8_lossy(rest));
        return;
    }
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::from("-----BEGIN CERTIFICATE REQUEST-----\n");
    for piece in rest.chunks(3) {
        let [a, b, c] = [0, 1, 2].map(|at| u32::from(piece.get(at).copied().unwrap_or_default()));
        let bits = a << 16 | b << 8 | c;
        for place in 0..4 {
            let letter = usize::try_from(bits >> (18 - 6 * place) & 63).unwrap_or_default();
            let filled = place <= piece.len();
            text.push(if filled { char::from(alphabet[letter]) } else { '=' });
        }
    }
    text.push_str("\n-----END CERTIFICATE REQUEST-----\n");
    let _ = Csr::parse(&text);
}

/// The path of a request.
pub(super) fn path(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(normal) = normalise(text) {
        assert_eq!(normalise(&normal).as_ref(), Ok(&normal), "one form is one form");
    }
}
