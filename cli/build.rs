//! Puts the chart into the binary: every file of `manifests/chart`, so that `weft install` needs nothing but itself.

use std::{
    env,
    error::Error,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

fn main() -> Result<(), Box<dyn Error>> {
    let chart = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../manifests/chart");
    let chart = chart.canonicalize()?;
    let mut found = Vec::new();
    collect(&chart, &mut found)?;
    found.sort();
    let mut code = String::from("[\n");
    for path in &found {
        let name = path.strip_prefix(&chart)?.display().to_string();
        writeln!(code, "    ({name:?}, include_str!({:?})),", path.display().to_string())?;
    }
    code.push_str("]\n");
    fs::write(Path::new(&env::var("OUT_DIR")?).join("chart.rs"), code)?;
    Ok(())
}

/// Every file below, through links too: the CRDs are linked into the chart.
fn collect(folder: &Path, found: &mut Vec<PathBuf>) -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed={}", folder.canonicalize()?.display());
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, found)?;
        } else {
            found.push(path);
        }
    }
    Ok(())
}
