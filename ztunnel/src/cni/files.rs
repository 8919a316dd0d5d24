//! Files that others read at any moment: whole, or not there.

use std::{
    fs::{self, File, Permissions},
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Writes a file in one step: under another name first, which no container runtime reads.
///
/// # Errors
/// When it cannot be written; what was there before is there still.
pub(super) fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let beside = beside(path)?;
    let written = write_to(&beside, content, mode).and_then(|()| fs::rename(&beside, path));
    if written.is_err() {
        // best effort: what matters is the error above
        let _ = fs::remove_file(&beside);
    }
    written
}

/// Removes a file; one that is not there is as good.
///
/// # Errors
/// When it cannot be removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(why) if why.kind() != io::ErrorKind::NotFound => Err(why),
        _ => Ok(()),
    }
}

fn write_to(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    remove(path)?;
    let mut file = File::create_new(path)?;
    file.set_permissions(Permissions::from_mode(mode))?;
    file.write_all(content)?;
    file.sync_all()
}

/// `.<name>.weft-tmp`
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    Ok(path.with_file_name(format!(".{}.weft-tmp", name.to_string_lossy())))
}
