//! Feeds, waits, compares, takes away.

use std::{collections::BTreeMap, fs, path::PathBuf, time::Duration};

use act::{
    config::{
        Reader,
        admission::{self, Ruling},
        directory,
        document::Document,
        kubernetes::{self, Scope},
    },
    process::Failure,
};
use decide::model::MeshSettings;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    compare::{differences, told},
    gateway_api,
    objects::{MISSPELT, REFUSED, TAKEN, as_made, as_stored, as_written, name, read},
    server::{Answer, Server},
};
use crate::{
    check::{Point, Row, table},
    show::Screen,
};

/// Longest wait for both to say the same, or for the server to enforce what it was told.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Lets nobody but a node's agent say that a pod is captured; part of an installed mesh.
const CAPTURE_POLICY: &str = "weft-capture-annotation";
/// Differences shown.
const MOST_SHOWN: usize = 5;

/// Feeds the same objects through the API server that KUBECONFIG names and through a directory, and compares. Prints
/// what was found; answers the exit code.
///
/// # Errors
/// When there is no server, or it does not do what any server does.
pub async fn run(screen: &Screen) -> Result<u8, Failure> {
    let server = Server::new().await?;
    let mut trial = Trial::new(server)?;
    let mut point = Point::new(1);
    let outcome = trial.play(&mut point, screen).await;
    let cleared = trial.clear().await;
    point.step("the objects are fed", outcome);
    point.step("the objects are taken away", cleared);
    let rows: Vec<Row> = point.rows();
    screen.print(&table(&rows).render(screen.width()));
    let failed: Vec<&Row> = rows.iter().filter(|row| !row.pass).collect();
    for row in &failed {
        let told = format!("FAILED {}: expected {}, seen {}", row.law, row.expected, row.seen);
        screen.print(&format!("{}\n", told.replace('\n', " ")));
    }
    let passed = rows.len() - failed.len();
    screen.print(&format!("{passed} passed, {} failed\n", failed.len()));
    Ok(u8::from(!failed.is_empty()))
}

/// One run, and what it left on the server.
struct Trial {
    server: Server,
    prefix: String,
    folder: PathBuf,
    settings: MeshSettings,
    /// Objects as a directory holds them.
    directory: Vec<Value>,
    /// To be taken away, in this order reversed.
    made: Vec<Value>,
    /// Admission policies that were in force before.
    bound: Vec<Value>,
}

impl Trial {
    fn new(server: Server) -> Result<Self, Failure> {
        let prefix = format!("source-{:05x}-", fastrand::u32(..0x10_0000));
        let folder = std::env::temp_dir().join(format!("weft-{prefix}objects"));
        fs::create_dir_all(&folder).map_err(|error| Failure(format!("{}: {error}", folder.display())))?;
        let settings = MeshSettings {
            root_namespace: format!("{prefix}root").into(),
            capture_is_told: true,
            ..MeshSettings::default()
        };
        Ok(Self {
            server,
            prefix,
            folder,
            settings,
            directory: Vec::new(),
            made: Vec::new(),
            bound: Vec::new(),
        })
    }

    async fn play(&mut self, point: &mut Point, screen: &Screen) -> Result<(), Failure> {
        screen.progress("definitions");
        self.define().await?;
        self.unbind().await?;
        let reader = kubernetes::watch(self.settings.clone(), Scope::Ztunnel);
        let mut reader = reader.map_err(|error| Failure(error.to_string()))?;
        screen.progress("objects that are taken");
        let taken = read(TAKEN, &self.prefix)?;
        let mut number = 0;
        for document in taken {
            self.feed(document.value).await?;
            number += 1;
        }
        screen.progress("objects that are misspelt");
        let misspelt = read(MISSPELT, &self.prefix)?;
        for document in &misspelt {
            self.feed(document.value.clone()).await?;
            number += 1;
        }
        screen.progress("the two snapshots");
        self.same(&mut reader, point, number).await?;
        screen.progress("objects that are refused");
        self.refused(point).await?;
        screen.progress("the admission policies");
        self.bind(point, &misspelt).await
    }

    /// Our definitions and those of Gateway API, where the server has none.
    async fn define(&mut self) -> Result<(), Failure> {
        let as_json = |crd| serde_json::to_value(crd).unwrap_or_default();
        let mut definitions: Vec<Value> = crds::all().into_iter().map(as_json).collect();
        definitions.extend(gateway_api::definitions()?);
        for mut definition in definitions {
            definition["apiVersion"] = "apiextensions.k8s.io/v1".into();
            definition["kind"] = "CustomResourceDefinition".into();
            if !self.server.has(&definition).await? {
                self.server.apply(&definition).await?;
                self.made.push(definition);
            }
        }
        Ok(())
    }

    /// Lifts the admission policies for as long as the misspelt objects are fed, and Pods that nodes say are captured.
    async fn unbind(&mut self) -> Result<(), Failure> {
        let annotation = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": CAPTURE_POLICY}});
        let fields = crds::fields::policies().into_iter().map(|[_, binding]| binding);
        for binding in fields.chain([annotation]) {
            if let Some(stored) = self.server.get(&binding).await? {
                self.server.delete(&binding).await?;
                self.bound.push(as_made(&binding, &stored));
            }
        }
        Ok(())
    }

    /// Gives an object to the server, and to the directory what became of it.
    async fn feed(&mut self, object: Value) -> Result<(), Failure> {
        let mut stored = self.server.create_soon(&object).await?;
        self.made.push(object.clone());
        if object.get("status").is_some() {
            stored = self.server.put_status(&object).await?;
        }
        if object["kind"] == "Namespace" {
            self.account(&object["metadata"]["name"]).await?;
        }
        self.directory.push(as_written(&object, &stored));
        Ok(())
    }

    /// What a controller makes in each namespace, if there is none.
    async fn account(&mut self, namespace: &Value) -> Result<(), Failure> {
        let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": "default", "namespace": namespace}});
        match self.server.create(&account).await? {
            Ok(_) => self.made.push(account),
            Err(refused) if refused.code == 409 => {}
            Err(refused) => return Err(Failure(format!("{} is not taken: {}", name(&account), refused.message))),
        }
        Ok(())
    }

    /// Waits until both say the same.
    async fn same(&mut self, reader: &mut Reader, point: &mut Point, number: usize) -> Result<(), Failure> {
        let began = Instant::now();
        let (mut found, mut said) = (Vec::new(), 0);
        while began.elapsed() < PATIENCE {
            let directory = self.through_directory().await?;
            let server = told(&reader.load(), &self.prefix);
            found = differences(&server, &directory);
            said = directory.len();
            if found.is_empty() && reader.load().complete {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let seen = match found.is_empty() {
            true => format!("{number} objects, {said} entries of the snapshot, the same"),
            false => format!("{} of {said} differ", found.len()),
        };
        for difference in found.iter().take(MOST_SHOWN) {
            point.assert(
                "an entry of the snapshot is the same by both",
                "the same",
                difference,
                false,
            );
        }
        let law = "the same objects amount to the same snapshot through API server and directory";
        point.assert(
            law,
            "the same",
            seen,
            found.is_empty() && number > 0 && said > number / 2,
        );
        let misspelt = format!("problems AuthorizationPolicy {}shop/misspelt-0", self.prefix);
        let said = told(&reader.load(), &self.prefix).remove(&misspelt).unwrap_or_default();
        point.holds(
            "a misspelt policy that got past the server is told and denies",
            "never matches",
            &said,
        );
        Ok(())
    }

    async fn through_directory(&self) -> Result<BTreeMap<String, String>, Failure> {
        let mut objects = self.directory.clone();
        objects.extend(self.made_by_others().await?);
        let list = json!({"apiVersion": "v1", "kind": "List", "items": objects});
        let file = self.folder.join("objects.json");
        fs::write(&file, list.to_string()).map_err(|error| Failure(format!("{}: {error}", file.display())))?;
        let loaded = directory::load(&self.folder, self.settings.clone());
        let (_, reader) = loaded.map_err(|error| Failure(error.to_string()))?;
        let snapshot = reader.load();
        if !snapshot.complete {
            return Err(Failure(format!(
                "the directory cannot be read: {:?}",
                snapshot.problems
            )));
        }
        Ok(told(&snapshot, &self.prefix))
    }

    /// What controllers and installations have put beside our objects.
    async fn made_by_others(&self) -> Result<Vec<Value>, Failure> {
        let mut found = self.server.list("weft.dev/v1alpha1", "MeshConfig", "").await?;
        for namespace in self.directory.iter().filter(|object| object["kind"] == "Namespace") {
            let namespace = namespace["metadata"]["name"].as_str().unwrap_or_default();
            found.extend(
                self.server
                    .list("discovery.k8s.io/v1", "EndpointSlice", namespace)
                    .await?,
            );
        }
        let ours: Vec<String> = self.directory.iter().map(name).collect();
        found.retain(|object| !ours.contains(&name(object)));
        Ok(found.iter().map(as_stored).collect())
    }

    /// What one refuses the other refuses.
    async fn refused(&self, point: &mut Point) -> Result<(), Failure> {
        let (mut number, mut wrong) = (0, Vec::new());
        for document in read(REFUSED, &self.prefix)? {
            number += 1;
            let shown = document.value.to_string();
            let answer = self.server.try_create(&document.value).await?;
            let (by_server, by_directory) = (is_refused(&answer), is_refused_by_directory(document));
            if !by_server || !by_directory {
                wrong.push(format!(
                    "{shown}: by the server {by_server}, by the directory {by_directory}"
                ));
            }
        }
        for wrong in wrong.iter().take(MOST_SHOWN) {
            point.assert("a bad object is refused by both", "refused by both", wrong, false);
        }
        let law = "what the API server's schemas refuse, the directory refuses";
        point.assert(
            law,
            format!("{number} of {number}"),
            format!("{} of {number}", number - wrong.len()),
            wrong.is_empty(),
        );
        Ok(())
    }

    /// Puts the admission policies in force: then every misspelt object is refused, and every taken one is not.
    async fn bind(&mut self, point: &mut Point, misspelt: &[Document]) -> Result<(), Failure> {
        for objects in crds::fields::policies() {
            for object in objects {
                if !self.server.has(&object).await? {
                    self.server.apply(&object).await?;
                    self.made.push(object);
                }
            }
        }
        let began = Instant::now();
        let mut let_in = Vec::new();
        while began.elapsed() < PATIENCE {
            let_in = self.let_in(misspelt).await?;
            if let_in.is_empty() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let number = misspelt.len();
        let law = "misspelt policies are refused at apply";
        point.assert(
            law,
            format!("{number} of {number}"),
            format!("{} of {number}", number - let_in.len()),
            let_in.is_empty(),
        );
        let form = json!({"apiVersion": "weft.dev/v1alpha1", "kind": "AuthorizationPolicy",
            "metadata": {"name": "form", "namespace": format!("{}shop", self.prefix)},
            "spec": {"rules": [{"form": [{"source": {"principals": ["x"]}}]}]}});
        let said = self
            .server
            .try_create(&form)
            .await?
            .err()
            .map(|refused| refused.message);
        point.holds(
            "the refusal names the field and what was meant",
            "spec.rules[].form is no field the mesh knows: did you mean from?",
            &said.unwrap_or_default(),
        );
        let good: Vec<Document> = read(TAKEN, &self.prefix)?;
        let renamed = good
            .into_iter()
            .filter(|it| it.value["apiVersion"] == "weft.dev/v1alpha1")
            .map(|mut it| {
                it.value["metadata"]["name"] = format!("{}again", self.prefix).into();
                it
            });
        let renamed: Vec<Document> = renamed.collect();
        let taken = self.let_in(&renamed).await?.len();
        point.equal("policies that are well written are taken still", renamed.len(), taken);
        Ok(())
    }

    /// Which of these the server would take as new objects.
    async fn let_in(&self, documents: &[Document]) -> Result<Vec<String>, Failure> {
        let mut found = Vec::new();
        for document in documents {
            let mut object = document.value.clone();
            object["metadata"]["name"] = format!("{}again", self.prefix).into();
            if self.server.try_create(&object).await?.is_ok() {
                found.push(name(&object));
            }
        }
        Ok(found)
    }

    /// Leaves the server as it was.
    async fn clear(&mut self) -> Result<(), Failure> {
        for object in std::mem::take(&mut self.made).iter().rev() {
            self.server.delete(object).await?;
        }
        for binding in std::mem::take(&mut self.bound) {
            self.server.apply(&binding).await?;
        }
        fs::remove_dir_all(&self.folder).map_err(|error| Failure(format!("{}: {error}", self.folder.display())))
    }
}

fn is_refused(answer: &Answer) -> bool {
    matches!(answer, Err(refused) if matches!(refused.code, 400 | 403 | 422))
}

fn is_refused_by_directory(document: Document) -> bool {
    let admission = admission::admit(document, &"objects.yaml".into());
    matches!(admission.map(|it| it.ruling), Some(Ruling::Refused { .. }))
}
