//! What the agent knew last, for its next start and for a plugin without an agent: a small JSON file beside the
//! CNI configuration, because it must outlive a reboot.

use std::{collections::BTreeSet, fs, io, path::Path, sync::Arc};

use serde::{Deserialize, Serialize};

use super::files;

/// Largest file that is read, in bytes.
const MOST: u64 = 4 << 20;

/// What the agent knew last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// The namespaces in the mesh.
    pub enabled: BTreeSet<Arc<str>>,
}

impl Known {
    /// Reads the file.
    ///
    /// # Errors
    /// When it is not there, too large, or no such file.
    pub fn read(path: &Path) -> io::Result<Self> {
        if fs::metadata(path)?.len() > MOST {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(serde_json::from_slice(&fs::read(path)?)?)
    }

    /// Writes the file, for root alone.
    ///
    /// # Errors
    /// When it cannot be written; the one before is there still.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        files::write(path, &serde_json::to_vec(self)?, 0o600)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_known_is_read_again_and_nonsense_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state");
        Known::read(&path).unwrap_err();
        let known = Known {
            enabled: BTreeSet::from(["shop".into()]),
        };
        known.write(&path).unwrap();
        assert_eq!(Known::read(&path).unwrap(), known);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        for nonsense in ["", "{", "[]", "{\"enabled\": 1}"] {
            fs::write(&path, nonsense).unwrap();
            Known::read(&path).unwrap_err();
        }
    }
}
