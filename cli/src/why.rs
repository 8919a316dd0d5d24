//! `weft why`: the story of one connection or request.

use std::process::ExitCode;

use decide::why::{Question, why};
use serde_json::{Value, json};

use crate::{
    output::{self, Format, Table},
    source::{self, Source},
};

/// Exit code when it is refused.
const REFUSED: u8 = 2;

/// What is asked.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Who connects: namespace/pod, or an address
    from: String,
    /// What to: service.namespace:port, namespace/name:port, or address:port
    to: String,
    /// HTTP method, where HTTP matters
    #[arg(requires = "path")]
    method: Option<String>,
    /// HTTP path
    path: Option<String>,
    /// HTTP header, as name:value; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
}

/// Tells the story.
///
/// # Errors
/// When the question names something that does not exist, or nobody can be asked.
pub(crate) fn run(from: &Source, arguments: &Arguments, format: Format) -> Result<ExitCode, String> {
    let question = Question {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        request: arguments.method.clone().zip(arguments.path.clone()),
        headers: arguments.headers.clone(),
    };
    let (answer, told_by) = ask(from, &question)?;
    if format == Format::Table {
        tell(&answer, &told_by)?;
    } else {
        output::value(&answer, format)?;
    }
    Ok(if answer["allowed"] == true {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(REFUSED)
    })
}

fn ask(from: &Source, question: &Question) -> Result<(Value, String), String> {
    if let Some(directory) = from.directory() {
        let explanation = why(&source::read(directory)?.load(), question)?;
        return Ok((json!(explanation), format!("{}, read now", directory.display())));
    }
    let proxies = from.proxies()?;
    let proxy = proxies
        .iter()
        .find(|proxy| proxy.name.starts_with("ztunnel"))
        .or_else(|| proxies.first());
    let proxy = proxy.ok_or("no proxy can be asked")?;
    Ok((
        proxy.post("/why", &json!(question))?,
        format!("what {} knows", proxy.name),
    ))
}

fn tell(answer: &Value, told_by: &str) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut table = Table::new(&["AT", "DECISION", "ANSWER", "DECIDED BY"]);
    for step in answer["steps"].as_array().into_iter().flatten() {
        table.row([
            text(&step["at"]),
            text(&step["decision"]),
            text(&step["answer"]),
            decider(&step["by"]),
        ]);
    }
    output::table(&table, "no decision was needed")?;
    let verdict = if answer["allowed"] == true {
        "allowed"
    } else {
        "refused"
    };
    output::text(&format!("\n{verdict}: {} ({told_by})\n", text(&answer["outcome"])))
}

/// A decider as one writes it: kind, namespace/name, field.
fn decider(by: &Value) -> String {
    let Some(object) = by.get("object") else {
        return String::new();
    };
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    format!(
        "{} {}/{} {}",
        text(&object["kind"]),
        text(&object["namespace"]),
        text(&object["name"]),
        text(&by["field"])
    )
    .trim_end()
    .to_owned()
}

fn header(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once(':').ok_or("write a header as name:value")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decider_is_written_as_kind_name_and_field() {
        let by = json!({ "object": { "kind": "AuthorizationPolicy", "namespace": "shop", "name": "admin" }, "field": "spec.rules[0]" });
        assert_eq!(decider(&by), "AuthorizationPolicy shop/admin spec.rules[0]");
        assert_eq!(decider(&Value::Null), "");
    }

    #[test]
    fn a_header_is_name_and_value() {
        assert_eq!(header("x-user: alice"), Ok(("x-user".into(), "alice".into())));
        assert!(header("alice").is_err());
    }
}
