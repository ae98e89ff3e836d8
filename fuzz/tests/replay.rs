//! Every seed, and everything that was ever found, once more: without the engine, so that the targets cannot rot.

use serin_fuzz::TARGETS;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No input of a few kilobytes takes longer, not even in a debug build beside other builds.
const LONGEST: Duration = Duration::from_secs(20);

#[test]
fn every_seed_and_everything_that_was_found_keeps_the_promises() {
    for (name, target) in TARGETS {
        let inputs: Vec<_> = ["seeds", "found"].into_iter().flat_map(|kind| inputs(kind, name)).collect();
        assert!(inputs.len() >= 3, "{name} has {} seeds", inputs.len());
        for path in inputs {
            let bytes = fs::read(&path).unwrap();
            let began = Instant::now();
            println!("{}", path.display());
            target(&bytes);
            assert!(began.elapsed() < LONGEST, "{} takes {:?}", path.display(), began.elapsed());
        }
    }
}

/// Neither is a directory without a target a test, nor does a target go unnamed.
#[test]
fn each_directory_belongs_to_a_target() {
    for kind in ["seeds", "found"] {
        for path in listed(&root().join(kind)) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            assert!(TARGETS.iter().any(|(target, _)| *target == name), "{kind}/{name} is of no target");
        }
    }
    let built = listed(&root().join("fuzz_targets"));
    let built: Vec<_> = built.iter().map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).collect();
    let mut named: Vec<_> = TARGETS.iter().map(|(name, _)| (*name).to_owned()).collect();
    named.sort();
    assert_eq!(built, named, "the targets that libFuzzer runs");
}

fn inputs(kind: &str, name: &str) -> Vec<PathBuf> {
    listed(&root().join(kind).join(name))
}

/// Nothing when there is no such directory.
fn listed(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}
