//! The shared libraries a program needs: from what `ldd` prints to paths.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use act::process::Failure;

/// The libraries of a program and its loader; none of a static one.
///
/// # Errors
/// When `ldd` cannot be run, or a library is not on this machine.
pub(super) fn of(program: &Path) -> Result<Vec<PathBuf>, Failure> {
    let output = Command::new("ldd").arg(program).output().map_err(|error| {
        Failure(format!(
            "ldd cannot be started: {error}; install it with `apt-get install libc-bin`"
        ))
    })?;
    // It fails on static programs, and says so.
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    parse(&String::from_utf8_lossy(&output.stdout)).map_err(|library| {
        Failure(format!(
            "{} needs {library}, which is not on this machine",
            program.display()
        ))
    })
}

/// Paths of libraries, or the name of one that is not found.
fn parse(ldd: &str) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    for line in ldd.lines().map(str::trim) {
        let (name, place) = line.split_once(" => ").unwrap_or(("", line));
        if place.starts_with("not found") {
            return Err(name.to_owned());
        }
        let path = place.split(" (").next().unwrap_or("").trim();
        if path.starts_with('/') {
            found.push(PathBuf::from(path));
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_and_the_loader_are_found_and_what_the_kernel_maps_is_not() {
        let text = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x2)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x3)\n";
        let expected = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from);
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
    }

    #[test]
    fn a_library_that_is_missing_is_named() {
        assert_eq!(parse("\tlibx.so.1 => not found\n"), Err("libx.so.1".to_owned()));
    }
}
