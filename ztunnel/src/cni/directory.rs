//! What is to be done to a directory of CNI configurations, so that its runtimes call our plugin last. Comes in:
//! the files there. Goes out: edits, in the order in which they are safe at any moment. Pure.
//!
//! A runtime uses the first file by name (`*.conflist`, `*.conf`, `*.json`). That one is the primary's; we stand
//! in it, or, with a configuration of our own, before it.

use std::fmt;

use serde_json::{Value, json};

use super::conflist::{Broken, TYPE, has_entry, with_entry, without_entry, wrap};

/// Our own configuration, where there is one.
pub const OWN: &str = "00-weft.conflist";
/// What the name of a file that we replaced by a list ends in. No runtime reads it.
const ORIGINAL: &str = ".weft-original";

/// A file of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    /// What it holds.
    pub text: String,
}

/// One change of the directory. Each is atomic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// A file holds this text.
    Write(String, String),
    /// A file is called otherwise.
    Rename(String, String),
    /// A file is gone.
    Remove(String),
}

/// What is to be done, and what cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// In this order.
    pub edits: Vec<Edit>,
    /// The file that runtimes use once that is done, with our entry in it.
    pub used: Option<String>,
    /// What a person should know.
    pub problems: Vec<String>,
}

/// Whether a runtime would read a file of this name, or we keep it for later.
pub fn is_ours_to_read(name: &str) -> bool {
    is_read(name) || name.ends_with(ORIGINAL)
}

/// How our entry gets in, and stays.
pub fn install(files: &[Found], entry: &Value, own: bool) -> Plan {
    let mut plan = Plan::default();
    let Some((primary, list)) = plan.primary(files, entry) else {
        let kept = files.iter().find(|file| file.name == OWN && own);
        plan.used = kept.map(|file| file.name.clone());
        plan.problems.push(match &kept {
            Some(_) => format!("there is no CNI configuration but ours: {OWN} is kept as it is"),
            None => "there is no CNI configuration to stand in yet: a network plugin must write one".to_owned(),
        });
        return plan;
    };
    let mut in_use = primary.name.clone();
    if own && *primary.name < *OWN {
        plan.problems.push(format!(
            "{} sorts before {OWN}, so our own configuration would not be used: our entry stands in it instead",
            primary.name
        ));
    }
    let before = own && *primary.name > *OWN;
    if before {
        plan.write(files, OWN, list);
        in_use = OWN.to_owned();
    } else if primary.name.ends_with(".conflist") {
        plan.write(files, &primary.name, list);
    } else {
        in_use = plan.convert(files, &primary.name, list);
    }
    for file in files.iter().filter(|file| file.name != in_use) {
        plan.clear(file);
    }
    plan.used = Some(in_use);
    plan
}

/// How everything of ours gets out.
pub fn remove(files: &[Found]) -> Plan {
    let mut plan = Plan::default();
    let is_there = |name: &str| files.iter().any(|file| file.name == name);
    for file in files {
        let Some(original) = file.name.strip_suffix(ORIGINAL) else {
            continue;
        };
        plan.edits.push(if is_there(original) {
            Edit::Remove(file.name.clone())
        } else {
            Edit::Rename(file.name.clone(), original.to_owned())
        });
        let list = listed(original);
        if files
            .iter()
            .any(|it| it.name == list && is_converted(&it.text, &file.text))
        {
            plan.edits.push(Edit::Remove(list));
        }
    }
    for file in files {
        let removed = plan.edits.contains(&Edit::Remove(file.name.clone()));
        if !removed {
            plan.clear(file);
        }
    }
    plan
}

impl Plan {
    /// The first file that is not ours and is sound, and what it holds as a list with our entry.
    fn primary<'a>(&mut self, files: &'a [Found], entry: &Value) -> Option<(&'a Found, String)> {
        let mut sorted: Vec<&Found> = files
            .iter()
            .filter(|file| is_read(&file.name) && file.name != OWN)
            .collect();
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
        for file in sorted {
            let list = if file.name.ends_with(".conflist") {
                with_entry(&file.text, entry)
            } else {
                wrap(&file.text, entry)
            };
            match list {
                Ok(list) => return Some((file, list)),
                Err(why) => self.problems.push(format!("{} is left alone: {why}", file.name)),
            }
        }
        None
    }

    fn write(&mut self, files: &[Found], name: &str, text: String) {
        if !files.iter().any(|file| file.name == name && file.text == text) {
            self.edits.push(Edit::Write(name.to_owned(), text));
        }
    }

    /// A list instead of a single plugin. The list is there before the single plugin goes.
    fn convert(&mut self, files: &[Found], name: &str, list: String) -> String {
        let to = listed(name);
        let occupied = files
            .iter()
            .any(|file| file.name == to && has_entry(&file.text) != Ok(true));
        if occupied {
            self.problems.push(format!(
                "{name} is a single plugin, and {to} is there as well: remove one of them"
            ));
            return name.to_owned();
        }
        self.write(files, &to, list);
        self.edits
            .push(Edit::Rename(name.to_owned(), format!("{name}{ORIGINAL}")));
        to
    }

    /// Nothing of ours stays in a file that is not used.
    fn clear(&mut self, file: &Found) {
        if file.name == OWN {
            self.edits.push(Edit::Remove(file.name.clone()));
        } else if file.name.ends_with(".conflist") {
            match without_entry(&file.text) {
                Ok(text) if text != file.text => self.edits.push(Edit::Write(file.name.clone(), text)),
                Ok(_) | Err(Broken::NotJson(_) | Broken::Lacks(_) | Broken::Unusual) => {}
            }
        }
    }
}

fn is_read(name: &str) -> bool {
    [".conflist", ".conf", ".json"].iter().any(|end| name.ends_with(end)) && !name.starts_with('.')
}

/// Whether a list is what we made of a single plugin, with our entry or without it by now.
fn is_converted(list: &str, original: &str) -> bool {
    let placeholder = json!({ "type": TYPE });
    let without = || without_entry(&wrap(original, &placeholder).ok()?).ok();
    has_entry(list) == Ok(true) || without().is_some_and(|without| without == list)
}

/// `10-a.conf` as a list.
fn listed(name: &str) -> String {
    let stem = name
        .strip_suffix(".conf")
        .or_else(|| name.strip_suffix(".json"))
        .unwrap_or(name);
    format!("{stem}.conflist")
}

impl fmt::Display for Edit {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(name, _) => write!(out, "wrote {name}"),
            Self::Rename(from, to) => write!(out, "renamed {from} to {to}"),
            Self::Remove(name) => write!(out, "removed {name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const BRIDGE: &str = r#"{"name":"n","plugins":[{"type":"bridge"}]}"#;
    const OTHER: &str = r#"{"name":"n","plugins":[{"type":"calico"}]}"#;
    const CONF: &str = r#"{"name":"n","type":"bridge"}"#;

    type Directory = BTreeMap<String, String>;

    fn entry() -> Value {
        json!({"type": "weft-cni"})
    }

    fn directory(files: &[(&str, &str)]) -> Directory {
        files
            .iter()
            .map(|(name, text)| ((*name).to_owned(), (*text).to_owned()))
            .collect()
    }

    fn files(directory: &Directory) -> Vec<Found> {
        let files = directory.iter().filter(|(name, _)| is_ours_to_read(name));
        files
            .map(|(name, text)| Found {
                name: name.clone(),
                text: text.clone(),
            })
            .collect()
    }

    fn apply(directory: &mut Directory, plan: &Plan) {
        for edit in &plan.edits {
            match edit {
                Edit::Write(name, text) => drop(directory.insert(name.clone(), text.clone())),
                Edit::Rename(from, to) => {
                    let text = directory.remove(from).unwrap();
                    directory.insert(to.clone(), text);
                }
                Edit::Remove(name) => drop(directory.remove(name).unwrap()),
            }
            // at any moment, what a runtime uses is a whole configuration
            if let Some((_, text)) = directory.iter().find(|(name, _)| is_read(name)) {
                assert!(serde_json::from_str::<Value>(text).is_ok() || text == "broken");
            }
        }
    }

    /// The types in the file that a runtime uses.
    fn used(directory: &Directory) -> Vec<String> {
        let (_, text) = directory.iter().find(|(name, _)| is_read(name)).unwrap();
        let parsed: Value = serde_json::from_str(text).unwrap();
        let plugins = parsed["plugins"].as_array().unwrap().iter();
        plugins
            .map(|plugin| plugin["type"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn our_entry_stands_in_what_runtimes_use_and_leaves_no_trace() {
        for own in [false, true] {
            for before in [
                directory(&[("10-a.conflist", BRIDGE)]),
                directory(&[("10-a.conf", CONF)]),
                directory(&[("10-a.json", CONF)]),
                directory(&[("10-a.conflist", BRIDGE), ("20-b.conflist", OTHER)]),
                directory(&[
                    ("10-a.conflist", BRIDGE),
                    ("99-loopback.conf", CONF),
                    ("calico-kubeconfig", "x"),
                ]),
                directory(&[("00-multus.conf", CONF), ("10-a.conflist", BRIDGE)]),
            ] {
                let mut now = before.clone();
                let plan = install(&files(&now), &entry(), own);
                apply(&mut now, &plan);
                assert_eq!(used(&now), ["bridge", "weft-cni"], "{before:?}");
                let name = now.keys().find(|name| is_read(name)).cloned();
                assert_eq!(plan.used, name);
                assert_eq!(
                    install(&files(&now), &entry(), own).edits,
                    [],
                    "done twice is done once: {now:?}"
                );
                // the other way of standing there takes over
                let plan = install(&files(&now), &entry(), !own);
                apply(&mut now, &plan);
                assert_eq!(used(&now), ["bridge", "weft-cni"], "{before:?}");
                let gone = remove(&files(&now));
                apply(&mut now, &gone);
                assert_eq!(now, before);
                assert_eq!(remove(&files(&now)), Plan::default());
            }
        }
    }

    #[test]
    fn an_entry_that_another_plugin_lost_is_put_back() {
        let mut now = directory(&[("10-a.conflist", BRIDGE)]);
        apply(&mut now.clone(), &install(&files(&now), &entry(), false));
        now.insert("10-a.conflist".to_owned(), OTHER.to_owned());
        apply(&mut now.clone(), &install(&files(&now), &entry(), false));
        let plan = install(&files(&now), &entry(), false);
        apply(&mut now, &plan);
        assert_eq!(used(&now), ["calico", "weft-cni"]);
        // a new first file takes over, and the former one is clean again
        now.insert("05-b.conflist".to_owned(), BRIDGE.to_owned());
        let plan = install(&files(&now), &entry(), false);
        apply(&mut now, &plan);
        assert_eq!(used(&now), ["bridge", "weft-cni"]);
        assert_eq!(now["10-a.conflist"], OTHER);
    }

    #[test]
    fn our_own_configuration_follows_the_primarys() {
        let mut now = directory(&[("10-a.conflist", BRIDGE)]);
        let plan = install(&files(&now), &entry(), true);
        apply(&mut now, &plan);
        assert_eq!(
            (used(&now), &*now["10-a.conflist"]),
            (vec!["bridge".to_owned(), "weft-cni".to_owned()], BRIDGE)
        );
        now.insert("10-a.conflist".to_owned(), OTHER.to_owned());
        let plan = install(&files(&now), &entry(), true);
        apply(&mut now, &plan);
        assert_eq!(used(&now), ["calico", "weft-cni"]);
        // the primary's is gone for a while: enabled pods still wait for us
        now.remove("10-a.conflist");
        let plan = install(&files(&now), &entry(), true);
        assert_eq!((plan.edits, plan.used.as_deref()), (vec![], Some(OWN)));
        assert_eq!(plan.problems.len(), 1);
    }

    #[test]
    fn broken_files_are_left_alone_and_named() {
        let mut now = directory(&[("05-a.conflist", "broken"), ("10-b.conflist", BRIDGE)]);
        let plan = install(&files(&now), &entry(), false);
        assert!(
            plan.problems[0].starts_with("05-a.conflist is left alone: it is no JSON"),
            "{plan:?}"
        );
        apply(&mut now, &plan);
        assert_eq!(now["05-a.conflist"], "broken");
        assert_eq!(plan.used.as_deref(), Some("10-b.conflist"));
        assert_eq!(install(&[], &entry(), false).used, None);
        assert_eq!(install(&[], &entry(), true).used, None);
    }

    #[test]
    fn a_list_of_another_maker_is_not_overwritten() {
        let now = directory(&[("10-a.conf", CONF), ("10-a.conflist", OTHER)]);
        let plan = install(&files(&now), &entry(), false);
        assert_eq!(plan.edits, []);
        assert!(plan.problems[0].contains("remove one of them"));
        // the single plugin written anew beside our own list is taken up again
        let mut now = directory(&[("10-a.conf", CONF)]);
        let plan = install(&files(&now), &entry(), false);
        apply(&mut now, &plan);
        now.insert("10-a.conf".to_owned(), CONF.replace("bridge", "calico"));
        let plan = install(&files(&now), &entry(), false);
        apply(&mut now, &plan);
        assert_eq!(used(&now), ["calico", "weft-cni"]);
        assert_eq!(now.len(), 2);
    }
}
