//! The part of Helm's template language that our chart is written in.
//!
//! Comes in: the text of template files and the values they speak of. Goes out: text. Anything that is not of this
//! part, and any value that is not there, is an error with file and line: what Helm would render as nothing is never
//! applied to a cluster by accident. A test compares what comes out with Helm's own.

mod evaluate;
mod parse;

use std::{collections::BTreeMap, fmt};

use serde_json::Value;

/// Where and why a template cannot be read or filled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    file: String,
    line: usize,
    why: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}: {}", self.file, self.line, self.why)
    }
}

/// A set of files that may include one another's definitions.
#[derive(Debug, Default)]
pub(crate) struct Templates {
    files: BTreeMap<String, Vec<Node>>,
    definitions: BTreeMap<String, Vec<Node>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Text(String),
    Print(Pipeline),
    /// Conditions with what they guard, and what is left when none holds.
    If(Vec<(Pipeline, Vec<Self>)>, Vec<Self>),
    With(Pipeline, Vec<Self>, Vec<Self>),
    Range(Pipeline, Vec<Self>, Vec<Self>),
}

#[derive(Debug, Clone, PartialEq)]
struct Pipeline {
    place: Place,
    commands: Vec<Vec<Term>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    file: String,
    line: usize,
}

#[derive(Debug, Clone, PartialEq)]
enum Term {
    /// A function's name.
    Word(String),
    /// `.a.b`, or `$.a.b` from the root.
    Path {
        from_root: bool,
        fields: Vec<String>,
    },
    Literal(Value),
    Nested(Pipeline),
}

impl Place {
    fn error(&self, why: impl Into<String>) -> TemplateError {
        TemplateError {
            file: self.file.clone(),
            line: self.line,
            why: why.into(),
        }
    }
}

impl Templates {
    /// Reads one file.
    ///
    /// # Errors
    /// Where it is not of the part of the language that we speak.
    pub(crate) fn add(&mut self, file: &str, text: &str) -> Result<(), TemplateError> {
        let nodes = parse::parse(file, text, &mut self.definitions)?;
        self.files.insert(file.to_owned(), nodes);
        Ok(())
    }

    /// Fills every file that is more than definitions; by name.
    ///
    /// # Errors
    /// Where a value is missing, or not of the kind that is wanted.
    pub(crate) fn render(&self, values: &Value) -> Result<BTreeMap<String, String>, TemplateError> {
        let shown = self.files.iter().filter(|(file, _)| !file.ends_with(".tpl"));
        shown
            .map(|(file, nodes)| Ok((file.clone(), evaluate::render(nodes, values, &self.definitions)?)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rendered(text: &str) -> Result<String, String> {
        let mut templates = Templates::default();
        templates.add("t.yaml", text).map_err(|error| error.to_string())?;
        let values = json!({
            "Values": {"name": "a\"b", "on": true, "off": false, "list": ["x", "y"], "map": {"k": 1, "j": [2]}, "none": "", "n": 3},
            "Release": {"Namespace": "weft-system"},
        });
        let mut all = templates.render(&values).map_err(|error| error.to_string())?;
        Ok(all.remove("t.yaml").unwrap())
    }

    #[test]
    fn what_the_chart_uses_is_rendered_as_helm_does() {
        for (template, wanted) in [
            ("a {{ .Release.Namespace }} b", "a weft-system b"),
            ("a\n  {{- if .Values.on }}\nyes\n{{- end }}\nb", "a\nyes\nb"),
            (
                "{{ if .Values.off }}1{{ else if .Values.list }}2{{ else }}3{{ end }}",
                "2",
            ),
            ("{{ if .Values.none }}1{{ else }}3{{ end }}", "3"),
            ("{{ .Values.name | quote }}", r#""a\"b""#),
            ("{{ quote .Values.n }}", "\"3\""),
            ("x: {{ toYaml .Values.map | nindent 2 }}", "x: \n  j:\n  - 2\n  k: 1"),
            ("{{ range .Values.list }}{{ . }}={{ $.Values.n }} {{ end }}", "x=3 y=3 "),
            (
                "{{ with .Values.map }}{{ .k }}{{ end }}{{ with .Values.none }}no{{ else }}other{{ end }}",
                "1other",
            ),
            ("{{/* a comment */}}{{- /* and another */ -}} x", "x"),
            ("{{ .Values.none | default .Values.name }}", "a\"b"),
            (
                "{{ if and .Values.on (not .Values.off) }}1{{ end }}{{ if or .Values.off (gt (int .Values.n) 2) }}2{{ end }}",
                "12",
            ),
            (
                "{{ define \"a.b\" }}<{{ .Values.n }}>{{ end }}{{ include \"a.b\" . }}",
                "<3>",
            ),
            (
                "{{ define \"l\" }}a: 1\nb: 2{{ end }}x:\n  {{- include \"l\" . | nindent 2 }}",
                "x:\n  a: 1\n  b: 2",
            ),
        ] {
            assert_eq!(rendered(template).as_deref(), Ok(wanted), "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_with_its_line() {
        for (template, part) in [
            ("\n{{ .Values.absent }}", "t.yaml:2: there is no value Values.absent"),
            ("{{ .Values.name.deeper }}", "no value Values.name.deeper"),
            ("{{ lookup \"v1\" }}", "function lookup"),
            ("\n\n{{ if .Values.on }}", "t.yaml:3: if has no end"),
            ("{{ end }}", "end belongs to nothing"),
            ("{{ .Values.map }}", "a map or list cannot be printed"),
            ("{{ .Values.name", "no }}"),
            ("{{ \"open }}", "text has no end"),
            ("{{ (eq 1 1 }}", "parenthesis"),
            ("{{ $x := 1 }}", "variables"),
            ("{{ include \"gone\" . }}", "no definition gone"),
            ("{{ .Values.n | nindent }}", "nindent"),
            ("{{ }}", "nothing"),
            (
                "{{ define \"x\" }}{{ include \"x\" . }}{{ end }}{{ include \"x\" . }}",
                "deeper than",
            ),
        ] {
            let error = rendered(template).unwrap_err();
            assert!(error.contains(part), "{template}: {error}");
        }
    }
}
