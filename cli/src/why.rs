//! `weft why`: the story of one connection or request.

use std::process::ExitCode;

use clap_complete::engine::ArgValueCandidates;
use decide::why::{Question, why};
use serde_json::{Value, json};

use crate::{
    complete,
    output::{self, Format, Table},
    proxies::Proxy,
    source::Source,
};

/// Exit code when it is refused.
const REFUSED: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  weft why shop/client web.shop:80                            may a connection be made?
  weft why shop/client web.shop:80 GET /admin -H x-user:ann   and this request?
  weft why 10.1.0.7 shop/web-1:8080                           from a pod's address, or from outside the mesh, to a pod
  weft --config DIR why ...                                   by the files of a directory, nothing needs to run

Exit codes: 0 it is allowed, 2 it is refused, 1 the question cannot be answered.";

/// What is asked.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Arguments {
    /// Who connects: namespace/pod, or an address
    #[arg(add = ArgValueCandidates::new(complete::sources))]
    from: String,
    /// What to: service.namespace:port, namespace/name:port, or address:port
    #[arg(add = ArgValueCandidates::new(complete::destinations))]
    to: String,
    /// HTTP method, where HTTP matters
    #[arg(requires = "path")]
    method: Option<String>,
    /// HTTP path
    path: Option<String>,
    /// HTTP header, as name:value; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME:VALUE", value_parser = header)]
    headers: Vec<(String, String)>,
    /// Ask this proxy what it knows now, instead of the cluster's objects
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::proxies))]
    proxy: Option<String>,
}

/// Tells the story.
///
/// # Errors
/// When the question names something that does not exist, or nobody can be asked.
pub(crate) async fn run(from: &Source, arguments: &Arguments, format: Format) -> Result<ExitCode, String> {
    let question = Question {
        from: arguments.from.clone(),
        to: arguments.to.clone(),
        request: arguments.method.clone().zip(arguments.path.clone()),
        headers: arguments.headers.clone(),
    };
    let (answer, told_by) = ask(from, arguments, &question).await?;
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

async fn ask(from: &Source, arguments: &Arguments, question: &Question) -> Result<(Value, String), String> {
    let Some(wanted) = &arguments.proxy else {
        if let Some((reader, name)) = from.reader().await? {
            let explanation = why(&reader.load(), question)?;
            return Ok((json!(explanation), format!("by {name}")));
        }
        let mut proxies = from.proxies().await?;
        proxies.sort_by_key(|proxy| rank(&proxy.name));
        return ask_proxy(proxies.first().ok_or("no proxy can be asked")?, question).await;
    };
    ask_proxy(&from.proxy(wanted).await?, question).await
}

async fn ask_proxy(proxy: &Proxy, question: &Question) -> Result<(Value, String), String> {
    let told = proxy.post("/why", json!(question).to_string()).await?;
    Ok((proxy.json(&told)?, format!("as {} knows it now", proxy.name)))
}

/// Whoever watches the mesh knows it whole; the CA answers nothing of this.
fn rank(name: &str) -> usize {
    let kinds = ["ztunnel", "waypoint"];
    kinds.iter().position(|kind| name.contains(kind)).unwrap_or(kinds.len())
}

/// The story as aligned lines: who, which decision, what it came to, and the object and field that decided.
fn tell(answer: &Value, told_by: &str) -> Result<(), String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut table = Table::new(&["AT", "DECISION", "ANSWER"]);
    for step in answer["steps"].as_array().into_iter().flatten() {
        let (sentence, by) = (text(&step["answer"]), decider(&step["by"]));
        let sentence = if sentence.contains(&by) {
            sentence
        } else {
            format!("{sentence} (by {by})")
        };
        table.row([text(&step["at"]), text(&step["decision"]), sentence]);
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
    let name = match &*text(&object["namespace"]) {
        "" => text(&object["name"]),
        namespace => format!("{namespace}/{}", text(&object["name"])),
    };
    format!("{} {name} {}", text(&object["kind"]), text(&by["field"]))
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
        let by = json!({ "object": { "kind": "MeshConfig", "namespace": "", "name": "default" }, "field": "" });
        assert_eq!(decider(&by), "MeshConfig default");
        assert_eq!(decider(&Value::Null), "");
    }

    #[test]
    fn a_header_is_name_and_value() {
        assert_eq!(header("x-user: alice"), Ok(("x-user".into(), "alice".into())));
        assert!(header("alice").is_err());
    }
}
