//! Fills the placeholders of a template: `{NAME}` in capitals, digits and underscores. From text and values to text.

use act::process::Failure;

/// The template with every placeholder replaced.
///
/// # Errors
/// Names a placeholder that has no value.
pub(super) fn fill(template: &str, values: &[(&str, &str)]) -> Result<String, Failure> {
    let mut filled = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find('{') {
        let (before, from) = rest.split_at(start);
        filled.push_str(before);
        let Some(name) = placeholder(from) else {
            filled.push('{');
            rest = from.get(1..).unwrap_or("");
            continue;
        };
        let (_, value) = values.iter().find(|(known, _)| *known == name).ok_or_else(|| {
            Failure(format!(
                "a template of the cluster asks for {{{name}}}, which has no value"
            ))
        })?;
        filled.push_str(value);
        rest = from.get(name.len() + 2..).unwrap_or("");
    }
    filled.push_str(rest);
    Ok(filled)
}

/// The name of the placeholder that a text begins with.
fn placeholder(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('{')?.split_once('}')?;
    let is_name = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_filled_and_other_braces_left_alone() {
        let filled = fill(
            "a: {NODE}\nb: { c: [{V4}, {V4}] } {} {x}",
            &[("NODE", "node1"), ("V4", "10.0.0.1")],
        );
        assert_eq!(filled.unwrap(), "a: node1\nb: { c: [10.0.0.1, 10.0.0.1] } {} {x}");
    }

    #[test]
    fn a_placeholder_without_value_is_refused_by_name() {
        assert!(fill("{NOBODY}", &[]).unwrap_err().0.contains("{NOBODY}"));
    }
}
