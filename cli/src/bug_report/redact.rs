//! Takes out of objects and logs what nobody but their owner should read. Pure.
//!
//! Kept is what explains the mesh: names, labels, addresses, ports, states, policies. Taken out are values of
//! environment variables and arguments of programs that are not the mesh's, whatever looks like a key or a token,
//! and what the API server keeps for its own use. Secrets are never read at all.

use std::sync::LazyLock;

use regex::{Captures, Regex};
use serde_json::{Map, Value};

/// Stands where something was.
const TAKEN: &str = "<redacted>";
/// Annotations that repeat a whole object, with all that was taken out elsewhere.
const REPEATS: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What looks like a private key, a token or a password, wherever it stands.
/// The name of what was taken out stays, so that a reader knows what stood there.
static SECRETS: LazyLock<Vec<Regex>> = LazyLock::new(|| {
    let patterns = [
        r"(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\z)",
        r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
        r"(?i)\b(bearer|basic) +[A-Za-z0-9._~+/=-]{8,}",
        r#"(?i)\b(?<kept>(password|passwd|secret|token|api[_-]?key)["']?\s*[:=]\s*["']?)[^\s"',}]{4,}"#,
    ];
    patterns.iter().filter_map(|pattern| Regex::new(pattern).ok()).collect()
});

/// A text without what looks like a secret.
pub(super) fn text(text: &str) -> String {
    SECRETS.iter().fold(text.to_owned(), |text, pattern| {
        let put = |found: &Captures<'_>| format!("{}{TAKEN}", found.name("kept").map_or("", |it| it.as_str()));
        pattern.replace_all(&text, put).into_owned()
    })
}

/// An object without what is its owner's alone. Of the mesh's own pods, arguments and variables are kept.
pub(super) fn object(value: &mut Value, is_ours: bool) {
    match value {
        Value::Object(fields) => {
            fields.remove("managedFields");
            fields.remove(REPEATS);
            if !is_ours {
                take_programs(fields);
            }
            fields.values_mut().for_each(|field| object(field, is_ours));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| object(item, is_ours)),
        Value::String(written) => *written = text(written),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Takes the arguments and variables out of a container, and out of a probe what it runs.
fn take_programs(fields: &mut Map<String, Value>) {
    for name in ["args", "command"] {
        if let Some(words) = fields.get_mut(name).filter(|it| it.is_array()) {
            *words = TAKEN.into();
        }
    }
    for variable in fields
        .get_mut("env")
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
    {
        if let Some(value) = variable.get_mut("value") {
            *value = TAKEN.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_tokens_and_passwords_are_taken_out_of_texts() {
        let key = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQ\n-----END EC PRIVATE KEY-----";
        for (secret, left) in [
            (key, "MHcCAQ"),
            ("-----BEGIN PRIVATE KEY-----\nMHcCAQ and the line ends", "MHcCAQ"),
            ("eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0xx.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
            ("authorization: Bearer abcdef123456", "abcdef123456"),
            ("password=hunter22", "hunter22"),
            (r#"{"token":"s3cr3tvalue"}"#, "s3cr3tvalue"),
        ] {
            let told = text(&format!("before {secret} after"));
            assert!(
                told.starts_with("before ") && told.contains(TAKEN) && !told.contains(left),
                "{told}"
            );
        }
        assert_eq!(text("--token=/run/abc --x"), "--token=<redacted> --x");
        let plain = "10.0.0.1:80 spiffe://cluster.local/ns/shop/sa/web denied by AuthorizationPolicy shop/tokens";
        assert_eq!(text(plain), plain);
        let certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----";
        assert_eq!(text(certificate), certificate);
    }

    #[test]
    fn programs_that_are_not_ours_keep_their_arguments_to_themselves() {
        let pod = json!({
            "metadata": { "name": "web", "managedFields": [1], "annotations": { REPEATS: "{}", "a": "b" } },
            "spec": { "containers": [{ "name": "c", "image": "web:1", "args": ["--key", "abc"],
                "env": [{ "name": "KEY", "value": "abc" }, { "name": "NODE", "valueFrom": {} }],
                "livenessProbe": { "exec": { "command": ["check", "abc"] } }, "ports": [{ "containerPort": 80 }] }] },
        });
        let mut theirs = pod.clone();
        object(&mut theirs, false);
        assert!(!theirs.to_string().contains("abc"), "{theirs}");
        assert_eq!(
            theirs["metadata"],
            json!({ "name": "web", "annotations": { "a": "b" } })
        );
        let container = &theirs["spec"]["containers"][0];
        assert_eq!(
            (&container["image"], &container["env"][0]["name"]),
            (&json!("web:1"), &json!("KEY"))
        );
        assert_eq!(container["ports"][0]["containerPort"], 80);
        let mut ours = pod;
        object(&mut ours, true);
        assert_eq!(ours["spec"]["containers"][0]["args"][0], "--key");
    }
}
