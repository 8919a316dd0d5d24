//! `weft demo`: the test world is a binary of its own, so that this command knows no proxy from the inside.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

/// Becomes `weft-demo`, which stands beside this binary.
///
/// # Errors
/// When it is not there.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode, String> {
    let own = std::env::current_exe().map_err(|error| format!("where this binary stands cannot be told: {error}"))?;
    let demo = own.with_file_name("weft-demo");
    let error = Command::new(&demo).args(arguments).exec();
    Err(format!(
        "{} cannot be run ({error}); build it with: cargo build --workspace --bins",
        demo.display()
    ))
}
