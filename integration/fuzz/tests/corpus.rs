//! Every input that is kept, tried again: what fuzzing began with, and what it found.

use std::{collections::BTreeSet, fs, path::Path};

use fuzz::TARGETS;

#[test]
fn every_input_that_is_kept_is_borne() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for target in TARGETS {
        let inputs = fs::read_dir(corpus.join(target.name)).expect("a folder of inputs for each target");
        let mut tried = 0;
        for input in inputs {
            let path = input.expect("an input").path();
            println!("{}", path.display());
            (target.run)(&fs::read(&path).expect("an input"));
            tried += 1;
        }
        assert!(tried > 0, "{} has no input to begin with", target.name);
    }
}

#[test]
fn no_folder_of_inputs_is_without_its_target() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let folders = fs::read_dir(corpus).expect("the corpus");
    let kept: BTreeSet<_> = folders
        .map(|folder| folder.expect("a folder").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(kept, TARGETS.map(|target| target.name.to_owned()).into());
}
