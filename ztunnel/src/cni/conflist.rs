//! Our entry in one file of a CNI configuration: where it stands, how it gets in and out again. Comes in: the
//! file's text. Goes out: the text with or without our entry, every other byte as it was. Pure.

use std::ops::Range;

use serde_json::Value;

/// The plugin's type: the name of its program.
pub const TYPE: &str = "weft-cni";

/// Why a file is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// It is no JSON.
    #[error("it is no JSON: {0}")]
    NotJson(String),
    /// It is JSON, and no network configuration.
    #[error("it names no {0}")]
    Lacks(&'static str),
    /// It is written in a way we cannot change without changing more than our entry.
    #[error("its list of plugins is written in a way that cannot be edited")]
    Unusual,
}

/// A network configuration list (`.conflist`), taken apart.
struct List<'a> {
    text: &'a str,
    /// Each plugin, and where it stands.
    plugins: Vec<(Range<usize>, Value)>,
}

/// The list with our entry once, last among the plugins when it was not there before. An entry of ours that is
/// there is brought up to date where it stands; further ones are removed.
///
/// # Errors
/// [`Broken`]; the file must be left alone.
pub fn with_entry(text: &str, entry: &Value) -> Result<String, Broken> {
    let list = List::parse(text)?;
    let ours = list.ours();
    // first in the list, it would get no result of a plugin before it
    let keep = ours.iter().copied().rfind(|index| *index > 0);
    let mut edited = text.to_owned();
    for index in ours.into_iter().rev() {
        let range = list.range(index);
        if Some(index) != keep {
            edited.replace_range(list.with_separator(index), "");
        } else if list.plugins.get(index).is_some_and(|(_, now)| now != entry) {
            edited.replace_range(range, &entry.to_string());
        }
    }
    if keep.is_some() {
        return Ok(edited);
    }
    let end = List::parse(&edited)?.plugins.last().map(|(range, _)| range.end);
    let end = end.ok_or(Broken::Lacks("plugin of its own"))?;
    edited.insert_str(end, &format!(",{}{entry}", list.gap()));
    Ok(edited)
}

/// The list without any entry of ours.
///
/// # Errors
/// [`Broken`]; the file must be left alone.
pub fn without_entry(text: &str) -> Result<String, Broken> {
    let list = List::parse(text)?;
    let mut edited = text.to_owned();
    for index in list.ours().into_iter().rev() {
        edited.replace_range(list.with_separator(index), "");
    }
    Ok(edited)
}

/// Whether an entry of ours is in the list.
///
/// # Errors
/// [`Broken`].
pub fn has_entry(text: &str) -> Result<bool, Broken> {
    Ok(!List::parse(text)?.ours().is_empty())
}

/// A list of the one plugin of a `.conf` file, and our entry.
///
/// # Errors
/// [`Broken`]; the file must be left alone.
pub fn wrap(text: &str, entry: &Value) -> Result<String, Broken> {
    let conf: Value = serde_json::from_str(text).map_err(|why| Broken::NotJson(why.to_string()))?;
    let field = |name| conf.get(name).and_then(Value::as_str);
    field("type").ok_or(Broken::Lacks("plugin type"))?;
    let name = field("name").ok_or(Broken::Lacks("network name"))?;
    // the version that the specification assumes where none is written
    let version = field("cniVersion").unwrap_or("0.1.0");
    let (name, version) = (Value::from(name), Value::from(version));
    Ok(format!(
        "{{\"cniVersion\":{version},\"name\":{name},\"plugins\":[\n{},\n{entry}]}}\n",
        text.trim()
    ))
}

impl<'a> List<'a> {
    fn parse(text: &'a str) -> Result<Self, Broken> {
        let parsed: Value = serde_json::from_str(text).map_err(|why| Broken::NotJson(why.to_string()))?;
        if !parsed.get("name").is_some_and(Value::is_string) {
            return Err(Broken::Lacks("network name"));
        }
        let plugins = parsed.get("plugins").and_then(Value::as_array);
        let plugins = plugins.filter(|all| !all.is_empty()).ok_or(Broken::Lacks("plugins"))?;
        if plugins
            .iter()
            .any(|plugin| !plugin.get("type").is_some_and(Value::is_string))
        {
            return Err(Broken::Lacks("type of a plugin"));
        }
        let found: Vec<(Range<usize>, Value)> = spans(text)
            .into_iter()
            .filter_map(|range| Some((range.clone(), serde_json::from_str(text.get(range)?).ok()?)))
            .collect();
        // duplicate or escaped keys: what we found must be what a parser finds
        if !found.iter().map(|(_, value)| value).eq(plugins) {
            return Err(Broken::Unusual);
        }
        if found.iter().all(|(_, plugin)| is_ours(plugin)) {
            return Err(Broken::Lacks("plugin but ours"));
        }
        Ok(Self { text, plugins: found })
    }

    fn ours(&self) -> Vec<usize> {
        let plugins = self.plugins.iter().enumerate();
        plugins
            .filter(|(_, (_, plugin))| is_ours(plugin))
            .map(|(index, _)| index)
            .collect()
    }

    fn range(&self, index: usize) -> Range<usize> {
        self.plugins.get(index).map_or(0..0, |(range, _)| range.clone())
    }

    /// A plugin with the comma and space before it; of the first one, those after it.
    fn with_separator(&self, index: usize) -> Range<usize> {
        match index.checked_sub(1) {
            Some(before) => self.range(before).end..self.range(index).end,
            None => self.range(0).start..self.range(1).start,
        }
    }

    /// The white space before the last plugin, so that ours stands as the others do.
    fn gap(&self) -> &'a str {
        let Some((last, _)) = self.plugins.last() else {
            return "";
        };
        let before = self.text.get(..last.start).unwrap_or("");
        before
            .get(before.trim_end_matches([' ', '\t', '\r', '\n']).len()..)
            .unwrap_or("")
    }
}

fn is_ours(plugin: &Value) -> bool {
    plugin.get("type").and_then(Value::as_str) == Some(TYPE)
}

/// Where the elements of the array `plugins` stand in a text that is a JSON object.
fn spans(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut depth, mut in_plugins) = (0_usize, false);
    // the string that is being read, or was read last, and the key whose value is being read
    let (mut string, mut last, mut key) = (None, "", "");
    let mut escaped = false;
    let mut element: Option<Range<usize>> = None;
    for (at, byte) in text.bytes().enumerate() {
        if let Some(start) = string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => (string, last) = (None, text.get(start..at).unwrap_or("")),
                _ => {}
            }
        } else {
            match byte {
                b'"' => string = Some(at + 1),
                b':' if depth == 1 => key = last,
                b'[' if depth == 1 && key == "plugins" => {
                    (in_plugins, depth) = (true, 2);
                    continue;
                }
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.saturating_sub(1),
                _ => {}
            }
            let ends = in_plugins && ((depth == 2 && byte == b',') || depth == 1);
            if ends {
                found.extend(element.take());
                in_plugins = depth != 1;
                continue;
            }
        }
        if in_plugins && !byte.is_ascii_whitespace() {
            element = Some(element.map_or(at, |range| range.start)..at + 1);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn entry() -> Value {
        json!({"type": "weft-cni", "socket": "/run/cni.sock"})
    }

    /// What every runtime sees.
    fn types(text: &str) -> Vec<String> {
        let parsed: Value = serde_json::from_str(text).unwrap();
        let plugins = parsed["plugins"].as_array().unwrap().iter();
        plugins
            .map(|plugin| plugin["type"].as_str().unwrap().to_owned())
            .collect()
    }

    const LIST: &str = "{\r\n  \"name\": \"pods\",\r\n  \"unknown\": [1, {\"plugins\": []}],\r\n  \"plugins\": [\r\n    {\"type\": \"bridge\", \"mtu\": 1e3, \"note\": \"a ] , \\\" b\"},\r\n    {\"type\": \"portmap\"}\r\n  ],\r\n  \"disableCheck\": true\r\n}\r\n";

    #[test]
    fn our_entry_is_last_and_every_other_byte_as_it_was() {
        let edited = with_entry(LIST, &entry()).unwrap();
        assert_eq!(types(&edited), ["bridge", "portmap", "weft-cni"]);
        let ours = format!(",\r\n    {}", entry());
        assert_eq!(edited.replace(&ours, ""), LIST);
        assert_eq!(
            with_entry(&edited, &entry()).unwrap(),
            edited,
            "done twice is done once"
        );
        assert_eq!(without_entry(&edited).unwrap(), LIST);
        assert_eq!(without_entry(LIST).unwrap(), LIST);
        assert!(has_entry(&edited).unwrap() && !has_entry(LIST).unwrap());
    }

    #[test]
    fn entries_of_ours_become_one_and_are_brought_up_to_date() {
        let old = r#"{"type":"weft-cni","socket":"/old"}"#;
        for (plugins, wanted) in [
            (format!(r#"{{"type":"a"}},{old}"#), vec!["a", "weft-cni"]),
            (
                format!(r#"{{"type":"a"}}, {old}, {{"type":"b"}}"#),
                vec!["a", "weft-cni", "b"],
            ),
            (
                format!(r#"{{"type":"a"}},{old},{{"type":"b"}},{old}"#),
                vec!["a", "b", "weft-cni"],
            ),
            (format!(r#"{old}, {{"type":"a"}}"#), vec!["a", "weft-cni"]),
            (format!(r#"{old},{{"type":"a"}},{old}"#), vec!["a", "weft-cni"]),
        ] {
            let text = format!(r#"{{"name":"n","plugins":[{plugins}]}}"#);
            let edited = with_entry(&text, &entry()).unwrap();
            assert_eq!(types(&edited), wanted, "{text}");
            assert!(edited.contains("/run/cni.sock") && !edited.contains("/old"), "{edited}");
            let others: Vec<&str> = wanted.iter().copied().filter(|it| *it != TYPE).collect();
            assert_eq!(types(&without_entry(&edited).unwrap()), others);
            assert_eq!(types(&without_entry(&text).unwrap()), others);
        }
    }

    #[test]
    fn what_is_broken_is_left_alone() {
        let lacks = |what| Err(Broken::Lacks(what));
        for (text, why) in [
            (r#"{"plugins":[{"type":"a"}]}"#, lacks("network name")),
            (r#"{"name":"n"}"#, lacks("plugins")),
            (r#"{"name":"n","plugins":[]}"#, lacks("plugins")),
            (r#"{"name":"n","plugins":{}}"#, lacks("plugins")),
            (r#"{"name":"n","plugins":[{"mtu":1}]}"#, lacks("type of a plugin")),
            (
                r#"{"name":"n","plugins":[{"type":"weft-cni"}]}"#,
                lacks("plugin but ours"),
            ),
            (r#"{"name":"n","plug\u0069ns":[{"type":"a"}]}"#, Err(Broken::Unusual)),
            (
                r#"{"name":"n","plugins":[{"type":"a"}],"plugins":[{"type":"b"}]}"#,
                Err(Broken::Unusual),
            ),
        ] {
            assert_eq!(with_entry(text, &entry()), why, "{text}");
        }
        for text in [
            "",
            "{",
            "[]x",
            "\u{feff}{}",
            "{\"name\":\"n\",\"plugins\":[{\"type\":\"a\"},]}",
        ] {
            assert!(matches!(with_entry(text, &entry()), Err(Broken::NotJson(_))), "{text}");
        }
    }

    #[test]
    fn a_single_plugin_becomes_a_list() {
        let conf = " {\"cniVersion\": \"0.3.1\", \"name\": \"n\", \"type\": \"bridge\", \"x\": [1]}\n";
        let list = wrap(conf, &entry()).unwrap();
        assert_eq!(types(&list), ["bridge", "weft-cni"]);
        assert!(list.contains(conf.trim()) && list.starts_with("{\"cniVersion\":\"0.3.1\",\"name\":\"n\","));
        assert_eq!(with_entry(&list, &entry()).unwrap(), list);
        for text in ["", "{}", r#"{"name":"n"}"#, r#"{"type":"a"}"#, "[]"] {
            wrap(text, &entry()).unwrap_err();
        }
    }

    proptest! {
        #[test]
        fn no_file_panics(text in ".{0,200}", json in "[\\[\\]{},:\" a\\\\pluginstyename]{0,60}") {
            let _ = (with_entry(&text, &entry()), without_entry(&json), wrap(&text, &entry()));
            let _ = (spans(&text), spans(&json));
        }

        #[test]
        fn in_and_out_again_changes_nothing(types in proptest::collection::vec("[a-z]{1,5}", 1..5), pad in "[ \n\t]{0,3}") {
            let plugins: Vec<String> = types.iter().map(|it| format!("{{\"type\":{pad}\"{it}\"}}")).collect();
            let text = format!("{{\"name\":\"n\",{pad}\"plugins\"{pad}:{pad}[{pad}{}{pad}]}}", plugins.join(&format!("{pad},{pad}")));
            let edited = with_entry(&text, &entry()).unwrap();
            prop_assert!(has_entry(&edited).unwrap());
            prop_assert_eq!(without_entry(&edited).unwrap(), text);
        }
    }
}
