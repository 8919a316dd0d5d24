//! Prometheus' text format, as much of it as counters and gauges need.

use std::collections::BTreeMap;

/// One series and its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The metric.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

impl Sample {
    /// A label's value; empty when it is absent or `unknown`.
    pub fn label(&self, name: &str) -> &str {
        match self.labels.get(name).map(String::as_str) {
            None | Some("unknown") => "",
            Some(value) => value,
        }
    }
}

/// Every sample of a page. Lines that are none, comments among them, are passed over.
pub fn samples(page: &str) -> Vec<Sample> {
    page.lines().filter_map(sample).collect()
}

fn sample(line: &str) -> Option<Sample> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = read_labels(inside, &mut labels)?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample {
        name: name.to_owned(),
        labels,
        value,
    })
}

/// Reads `name="value",…}` and answers what follows.
fn read_labels<'a>(mut text: &'a str, labels: &mut BTreeMap<String, String>) -> Option<&'a str> {
    loop {
        text = text.trim_start_matches([',', ' ']);
        if let Some(rest) = text.strip_prefix('}') {
            return Some(rest);
        }
        let (name, after) = text.split_once("=\"")?;
        let (value, rest) = quoted(after)?;
        labels.insert(name.to_owned(), value);
        text = rest;
    }
}

/// Reads up to the closing quote, with its escapes undone.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match (escaped, character) {
            (true, 'n') => value.push('\n'),
            (true, other) => value.push(other),
            (false, '\\') => {}
            (false, '"') => return Some((value, &text[at + 1..])),
            (false, other) => value.push(other),
        }
        escaped = !escaped && character == '\\';
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_read_with_labels_and_escapes() {
        let page =
            "# HELP x y\n# TYPE x counter\nx_total{a=\"1\",b=\"q\\\"\\\\ n\\n\"} 42\nplain 1.5 1700\nbroken{a=\"1 2\n";
        let read = samples(page);
        assert_eq!(read.len(), 2);
        assert_eq!((read[0].label("a"), read[0].label("b")), ("1", "q\"\\ n\n"));
        assert_eq!((read[0].value, read[1].value), (42.0, 1.5));
        assert_eq!(read[0].label("absent"), "");
    }

    proptest! {
        #[test]
        fn any_page_is_survived(page in ".{0,200}") {
            let _ = samples(&page);
        }

        #[test]
        fn a_label_reads_as_it_was_written(value in "[^\\r\\n]{0,20}") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
            let read = samples(&format!("m{{l=\"{escaped}\"}} 1"));
            prop_assert_eq!(&read[0].labels["l"], &value);
        }
    }
}
