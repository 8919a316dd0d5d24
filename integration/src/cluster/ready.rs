//! What the API server says of nodes and pods: from its JSON to who is ready. Pure.

use serde_json::Value;

/// The names of a list's objects, nodes or pods, that say they are ready.
pub(super) fn names(list: &str) -> Vec<String> {
    let list: Value = serde_json::from_str(list).unwrap_or_default();
    let items = list["items"].as_array().map_or(&[][..], Vec::as_slice);
    items
        .iter()
        .filter(|object| has_condition(object, "Ready"))
        .filter_map(|object| object["metadata"]["name"].as_str().map(str::to_owned))
        .collect()
}

fn has_condition(object: &Value, kind: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions
        .iter()
        .any(|condition| condition["type"] == kind && condition["status"] == "True")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_ready_only_when_it_says_so() {
        let list = r#"{"items":[
            {"metadata":{"name":"a"},"status":{"conditions":[{"type":"Ready","status":"True"}]}},
            {"metadata":{"name":"b"},"status":{"conditions":[{"type":"Ready","status":"Unknown"}]}},
            {"metadata":{"name":"c"},"status":{"conditions":[{"type":"DiskPressure","status":"True"}]}},
            {"metadata":{"name":"d"}}]}"#;
        assert_eq!(names(list), ["a"]);
        assert!(names("not JSON").is_empty());
    }
}
