use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn values(text: &str) -> Vec<Value> {
    let documents = read(text.as_bytes()).expect("readable");
    documents.into_iter().map(|document| document.value).collect()
}

fn error(bytes: impl AsRef<[u8]>) -> Unreadable {
    read(bytes.as_ref()).expect_err("unreadable")
}

#[test]
fn every_field_has_its_line() {
    let text = "# a policy
kind: AuthorizationPolicy
metadata:
  labels: {a: b, weft.dev/use-waypoint: w}
spec:
  rules:
  - from:
    - source:
        ipBlocks:
        - 10.0.0.0/8
        - 10.0.0.0/99
---
kind: Second
";
    let documents = read(text.as_bytes()).expect("readable");
    let [first, second] = documents.as_slice() else {
        panic!("two documents")
    };
    assert_eq!((first.line, second.line), (2, 13));
    for (path, line) in [
        ("kind", 2),
        ("metadata.labels[weft.dev/use-waypoint]", 4),
        ("spec", 5),
        ("spec.rules", 6),
        ("spec.rules[0]", 7),
        ("spec.rules[0].from", 7),
        ("spec.rules[0].from[0].source", 8),
        ("spec.rules[0].from[0].source.ipBlocks[1]", 11),
    ] {
        assert_eq!(first.lines.get(path), Some(&line), "{path}");
    }
    assert_eq!(second.lines.get("kind"), Some(&13));
}

#[test]
fn scalars_are_read_as_kubectl_reads_them() {
    for (text, value) in [
        ("1", json!(1)),
        ("-1", json!(-1)),
        ("+1", json!(1)),
        ("0x1F", json!(31)),
        ("0o17", json!(15)),
        ("017", json!(15)),
        ("08", json!(8.0)),
        ("18446744073709551615", json!(18_446_744_073_709_551_615_u64)),
        ("-9223372036854775808", json!(i64::MIN)),
        ("1.5", json!(1.5)),
        ("1e3", json!(1000.0)),
        ("1e999", json!("1e999")),
        ("0x", json!("0x")),
        ("--1", json!("--1")),
        ("10.0.0.1", json!("10.0.0.1")),
        ("10.0.0.0/8", json!("10.0.0.0/8")),
        ("::1", json!("::1")),
        (".inf", json!(".inf")),
        ("on", json!(true)),
        ("No", json!(false)),
        ("y", json!("y")),
        ("'on'", json!("on")),
        ("\"8080\"", json!("8080")),
        ("", json!(null)),
        ("~", json!(null)),
        ("2026-01-31T12:00:00Z", json!("2026-01-31T12:00:00Z")),
        ("!!str 8080", json!("8080")),
        ("! 8080", json!("8080")),
        ("!!int 7", json!(7)),
        ("|\n  two\n  lines\n", json!("two\nlines\n")),
    ] {
        assert_eq!(values(&format!("a: {text}")), [json!({ "a": value })], "{text}");
    }
}

#[test]
fn json_is_yaml_and_a_byte_order_mark_is_nothing() {
    let text = "\u{feff}{\"kind\": \"A\",\n\t\"spec\": {\"ports\": [\"80\", 81], \"text\": \"\\u0041\\/\"}}";
    assert_eq!(
        values(text),
        [json!({"kind": "A", "spec": {"ports": ["80", 81], "text": "A/"}})]
    );
}

#[test]
fn lists_are_taken_apart_and_empty_documents_are_nothing() {
    let text = "---\n# nothing\n---\nkind: List\napiVersion: v1\nitems:\n- kind: A\n  spec: {a: 1}\n- kind: List\n  items: [{kind: B}]\n---\n~\n---\n";
    let documents = read(text.as_bytes()).expect("readable");
    let found: Vec<_> = documents.iter().map(|it| (&it.value["kind"], it.line)).collect();
    assert_eq!(found, [(&json!("A"), 7), (&json!("B"), 10)]);
    assert_eq!(documents[0].lines.get("spec.a"), Some(&8));
    assert_eq!(
        values("{kind: PodList, apiVersion: v1, items: [{metadata: {name: a}}]}"),
        [json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}})]
    );
    assert_eq!(values(""), Vec::<Value>::new());
    assert_eq!(values("# only words\n"), Vec::<Value>::new());
}

#[test]
fn aliases_and_merge_keys_are_written_out() {
    let text =
        "base: &base {a: 1, b: 2}\nother: &other {b: 3, c: 4}\nuse: *base\nmerged:\n  <<: [*base, *other]\n  a: 0\n";
    assert_eq!(
        values(text),
        [json!({
            "base": {"a": 1, "b": 2}, "other": {"b": 3, "c": 4}, "use": {"a": 1, "b": 2},
            "merged": {"a": 0, "b": 2, "c": 4},
        })]
    );
}

#[test]
fn what_cannot_be_read_is_named_with_its_line() {
    for (text, line, what) in [
        ("a: 1\nb: 2\na: 3\n", 3, "twice, first on line 1"),
        ("a: 1\nb: {c: 1, c: 2}\n", 2, "twice"),
        ("a: 1\n--- 5\n", 2, "not an object"),
        ("- a\n", 1, "not an object"),
        ("{kind: List, items: [5]}", 1, "not an object"),
        ("a: [1,\n", 2, "not YAML"),
        ("a: 1\n b: 2\n", 2, "not YAML"),
        ("a:\n\t- b\n", 2, "not YAML"),
        ("a: \"open\n", 1, "not YAML"),
        ("a: 1\n? [x]\n: 2\n", 2, "name is a sequence"),
        ("a: !secret x\n", 1, "tag !secret"),
        ("a: !!int x\n", 1, "no int"),
        ("a: !!binary eA==\n", 1, "!!binary"),
        ("a: !!set {x: 1}\n", 1, "tag"),
        ("a: &a [1, *a]\n", 1, "inside the value it names"),
        ("a: *nowhere\n", 1, "not YAML"),
        ("a: 1\n<<: 5\n", 1, "merges something"),
        ("a: 1\nb: \0\nc: 3\n", 2, "control character"),
        ("a: 1\n\u{1b}[31m", 2, "control character"),
    ] {
        let error = error(text);
        assert!(error.what.contains(what), "{text:?}: {error}");
        assert_eq!(error.line, line, "{text:?}: {error}");
    }
    let not_text = error(b"a: 1\nb: \xff\xfe");
    assert_eq!((not_text.line, not_text.what.contains("UTF-8")), (2, true));
}

#[test]
fn a_file_is_cut_where_documents_begin_and_nowhere_else() {
    let cut = |text: &str| -> Vec<(u32, String)> {
        let pages = pages(text.as_bytes()).expect("readable").into_iter();
        pages.map(|page| (page.line, page.text.to_owned())).collect()
    };
    let page = |line, text: &str| (line, text.to_owned());
    assert_eq!(
        cut("a: 1\n---\nb: 2\n--- # c\nd: |\n  ---\n  e\n---x: 1\n---"),
        [
            page(1, "a: 1\n"),
            page(2, "---\nb: 2\n"),
            page(4, "--- # c\nd: |\n  ---\n  e\n---x: 1\n"),
            page(9, "---")
        ]
    );
    assert_eq!(cut("---\na: 1\n"), [page(1, "---\na: 1\n")]);
    for whole in [
        "%YAML 1.2\n---\na: 1\n",
        "a: 1\n...\n%YAML 1.2\n---\nb: 1\n",
        "a: 1\r\n---\r\nb: 2\r\n",
        "",
    ] {
        assert_eq!(cut(whole), [page(1, whole)]);
    }
}

#[test]
fn a_half_written_flow_or_string_is_not_read() {
    let whole = "{\"kind\": \"A\", \"spec\": {\"rules\": [{\"from\": [\"x\"]}]}}";
    for end in 1..whole.len() {
        assert!(read(&whole.as_bytes()[..end]).is_err(), "{}", &whole[..end]);
    }
}

#[test]
fn hostile_input_is_refused_soon() {
    let laughs = (1..40).fold(String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n"), |text, level| {
        let one = format!("*a{}", level - 1);
        format!("{text}a{level}: &a{level} [{}]\n", vec![one; 9].join(", "))
    });
    let long = "x".repeat(100_000);
    let copies = format!("a: &a {long}\nb: [{}]\n", vec!["*a"; 100_000].join(","));
    let million = 1_000_000;
    for (name, text) in [
        ("laughs", laughs),
        ("copies of a long string", copies),
        ("brackets", "[".repeat(million)),
        ("braces", "{".repeat(million)),
        ("dashes", "- ".repeat(million)),
        ("questions", "? ".repeat(million)),
        (
            "nested",
            (0..2000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
        ),
        ("quotes", "\"".repeat(million)),
        ("open string", format!("a: \"{}", "x\n".repeat(million))),
        ("anchors", "&a ".repeat(million)),
        ("tags", "!a ".repeat(million)),
        ("colons", ": ".repeat(million)),
        ("values", format!("a: [{}]", "1,".repeat(2 * million))),
        ("too large", "# ".repeat(3 * million)),
        ("documents", "--- {a: 1}\n".repeat(20_000)),
        (
            "items",
            format!("{{kind: List, items: [{}]}}", "{a: 1},".repeat(20_000)),
        ),
    ] {
        let start = tokio::time::Instant::now();
        assert!(read(text.as_bytes()).is_err(), "{name}");
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{name}: {:?}",
            start.elapsed()
        );
        println!("{name}: {:?}", start.elapsed());
    }
}

#[test]
fn large_honest_input_is_read_soon() {
    let object =
        "kind: Pod\nmetadata: {name: a, labels: {a: b}}\nspec: {containers: [{ports: [{containerPort: 80}]}]}\n---\n";
    let text = object.repeat(9_000);
    let start = tokio::time::Instant::now();
    assert_eq!(read(text.as_bytes()).expect("readable").len(), 9_000);
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    println!("{:?}", start.elapsed());
}

/// Pieces that make a YAML parser work.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("a: "),
        Just("- "),
        Just("? "),
        Just(": "),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(","),
        Just("&a "),
        Just("*a "),
        Just("<<: "),
        Just("!!str "),
        Just("!x "),
        Just("'"),
        Just("\""),
        Just("|\n"),
        Just(">-\n"),
        Just("\n"),
        Just("\n  "),
        Just("\n\t"),
        Just("---\n"),
        Just("...\n"),
        Just("%TAG ! x\n"),
        Just("# x\n"),
        Just("\\u00"),
        Just("kind: List\nitems:\n"),
        Just("é"),
        Just("\u{85}"),
        Just("\r"),
        Just("0"),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

#[test]
fn a_block_with_nothing_in_it_is_empty_wherever_it_stands() {
    for text in ["a: |\n", "a: >- # none\n\n", "a: |\n---\n", "a: |\n\n---\nb: c\n"] {
        assert_eq!(values(text).first(), Some(&json!({ "a": "" })), "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pages_mean_what_the_whole_file_means(text in pieces()) {
        let whole = Page { text: &text, line: 1 }.read();
        match (whole, read(text.as_bytes())) {
            (Ok(whole), Ok(read)) => prop_assert_eq!(whole, read),
            (Err(_), Err(_)) => {}
            (whole, read) => prop_assert!(false, "{whole:?} as a whole, {read:?} by pages"),
        }
    }

    #[test]
    fn no_text_panics(text in pieces()) {
        let _ = read(text.as_bytes());
    }

    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = read(&bytes);
    }

    #[test]
    fn json_means_what_it_says(value in json_value(), name in "[a-z]{1,8}") {
        let object = json!({ (name): value });
        let compact = serde_json::to_string(&object).expect("JSON");
        let pretty = serde_json::to_string_pretty(&object).expect("JSON");
        prop_assert_eq!(values(&compact), vec![object.clone()]);
        prop_assert_eq!(values(&pretty), vec![object]);
    }

    #[test]
    fn yaml_means_what_it_says(value in json_value(), name in "[a-z]{2,8}") {
        let object = json!({ (format!("{name}1")): value });
        let text = serde_yaml::to_string(&object).expect("YAML");
        prop_assert_eq!(values(&text), vec![object], "{}", text);
    }
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~\\n]{5,12}".prop_map(Value::from),
        "[a-z0-9./:*-]{1,12}"
            .prop_filter(
                "YAML 1.2 writes these words bare, kubectl reads them as booleans",
                |it| { !["yes", "no", "on", "off"].contains(&it.as_str()) }
            )
            .prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z/.]{1,6}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}
