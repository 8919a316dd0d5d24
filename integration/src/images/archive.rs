//! An image as an OCI archive: one layer, its configuration, its manifest, an index that names it. Pure but for the
//! last step, which writes the file.

use std::{fs, io, path::Path};

use act::process::Failure;
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

use super::root::{Entry, Root};

/// An image.
#[derive(Debug, Clone)]
pub struct Image {
    /// Its name with tag, such as `localhost/weft/ca:0.1.0`.
    pub name: String,
    /// Its files.
    pub root: Root,
    /// What it runs.
    pub entrypoint: Vec<String>,
    /// User and group id it runs as, unless the pod says otherwise.
    pub user: u32,
}

/// Writes the archive of an image, as a whole or not at all.
///
/// # Errors
/// Names the file.
pub fn write(image: &Image, path: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure(format!("{} cannot be written: {error}", path.display()));
    let new = path.with_extension("new");
    fs::write(&new, archive(image).map_err(failed)?).map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}

/// The bytes of an image's archive.
fn archive(image: &Image) -> io::Result<Vec<u8>> {
    // Not compressed: it travels from this machine to this machine.
    let layer = layer(&image.root)?;
    let config = bytes(&config(image, &layer));
    let manifest = bytes(&json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
    }));
    let mut listed = descriptor(MANIFEST, &manifest);
    listed["annotations"] = json!({
        "io.containerd.image.name": image.name,
        "org.opencontainers.image.ref.name": image.name,
    });
    let index = bytes(&json!({ "schemaVersion": 2, "manifests": [listed] }));
    let mut archive = Builder::new(Vec::new());
    file(&mut archive, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    file(&mut archive, "index.json", &index)?;
    for blob in [&config, &manifest, &layer] {
        file(&mut archive, &format!("blobs/sha256/{}", sha256(blob)), blob)?;
    }
    archive.into_inner()
}

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

fn config(image: &Image, layer: &[u8]) -> Value {
    json!({
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "User": format!("{0}:{0}", image.user),
            "Env": ["PATH=/usr/bin"],
            "Entrypoint": image.entrypoint,
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", sha256(layer))] },
    })
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn layer(root: &Root) -> io::Result<Vec<u8>> {
    let mut layer = Builder::new(Vec::new());
    for (path, entry) in root.entries() {
        let mut header = Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(0);
        match entry {
            Entry::Directory(mode) => {
                header.set_entry_type(EntryType::Directory);
                header.set_mode(*mode);
                layer.append_data(&mut header, path, io::empty())?;
            }
            Entry::File(mode, content) => {
                header.set_mode(*mode);
                header.set_size(content.len() as u64);
                layer.append_data(&mut header, path, content.as_slice())?;
            }
            Entry::Link(target) => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                layer.append_link(&mut header, path, target)?;
            }
        }
    }
    layer.into_inner()
}

fn file(archive: &mut Builder<Vec<u8>>, path: &str, content: &[u8]) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mode(0o644);
    header.set_mtime(0);
    header.set_size(content.len() as u64);
    archive.append_data(&mut header, path, content)
}

fn descriptor(kind: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": kind, "digest": format!("sha256:{}", sha256(blob)), "size": blob.len() })
}

fn bytes(document: &Value) -> Vec<u8> {
    document.to_string().into_bytes()
}

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, io::Read};

    use super::*;

    fn image() -> Image {
        let mut root = Root::new();
        root.text("/etc/greeting", "hello");
        Image {
            name: "localhost/weft/x:1".into(),
            root,
            entrypoint: vec!["/usr/bin/x".into()],
            user: 65532,
        }
    }

    fn unpacked(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(bytes);
        archive
            .entries()
            .unwrap()
            .map(|entry| {
                let mut entry = entry.unwrap();
                assert_eq!(entry.header().mtime().unwrap(), 0);
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (entry.path().unwrap().display().to_string(), content)
            })
            .collect()
    }

    #[test]
    fn the_same_image_is_the_same_bytes() {
        assert_eq!(archive(&image()).unwrap(), archive(&image()).unwrap());
    }

    #[test]
    fn index_manifest_configuration_and_layer_name_one_another_by_digest() {
        let files = unpacked(&archive(&image()).unwrap());
        let blob = |reference: &Value| {
            let digest = reference["digest"].as_str().unwrap().replace("sha256:", "");
            let content = &files[&format!("blobs/sha256/{digest}")];
            assert_eq!(sha256(content), digest);
            assert_eq!(reference["size"], content.len());
            content.clone()
        };
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        let index = json(&files["index.json"]);
        assert_eq!(
            index["manifests"][0]["annotations"]["io.containerd.image.name"],
            "localhost/weft/x:1"
        );
        let manifest = json(&blob(&index["manifests"][0]));
        let config = json(&blob(&manifest["config"]));
        let layer = blob(&manifest["layers"][0]);
        assert_eq!(config["rootfs"]["diff_ids"][0], format!("sha256:{}", sha256(&layer)));
        assert_eq!(config["config"]["User"], "65532:65532");
        assert_eq!(unpacked(&layer)["etc/greeting"], b"hello");
    }
}
