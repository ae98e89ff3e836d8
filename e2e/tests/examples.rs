//! What `examples/` shows is what a real API server takes, whole: a field that it does not know it would drop in silence.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use serin_e2e::objects::Kind;
use serin_e2e::scenario::scenario;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the cluster: make test"]
async fn examples_are_taken_by_the_api_server_and_nothing_in_them_is_dropped() -> Result<()> {
    scenario("examples", async |scenario| {
        let objects = scenario.objects();
        let mut taken: BTreeMap<&str, usize> = BTreeMap::new();
        for (place, mut manifest) in manifests()? {
            let (kind, name) = match manifest["kind"].as_str() {
                Some("Canary") => (Kind::Canary, "Canary"),
                Some("MetricTemplate") => (Kind::MetricTemplate, "MetricTemplate"),
                Some("AlertProvider") => (Kind::AlertProvider, "AlertProvider"),
                _ => continue,
            };
            manifest["metadata"]["namespace"] = objects.namespace().into();
            let stored = objects.try_out(kind, manifest.clone()).await.with_context(|| place.clone())?;
            if let Some(lost) = lost("spec", &manifest["spec"], &stored["spec"]) {
                anyhow::bail!("{place}: the API server dropped or changed {lost}");
            }
            *taken.entry(name).or_default() += 1;
        }
        println!("  taken: {taken:?}");
        ensure!(taken.len() == 3 && taken["Canary"] > 15, "examples are missing: {taken:?}");
        Ok(())
    })
    .await
}

/// The documents of all files in `examples/`, with the place where they are.
fn manifests() -> Result<Vec<(String, Value)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut all = vec![];
    for path in files(&root)? {
        let place = path.strip_prefix(&root)?.display().to_string();
        for part in fs::read_to_string(&path)?.split("\n---\n") {
            all.push((place.clone(), serde_saphyr::from_str(part).with_context(|| place.clone())?));
        }
    }
    Ok(all)
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut all = vec![];
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        if path.is_dir() { all.extend(files(&path)?) } else { all.push(path) }
    }
    Ok(all)
}

/// The first thing that was written and is not stored; what the API server adds is no loss.
fn lost(place: &str, written: &Value, stored: &Value) -> Option<String> {
    match (written, stored) {
        (Value::Object(written), Value::Object(stored)) => written.iter().find_map(|(field, value)| {
            let place = format!("{place}.{field}");
            stored.get(field).map_or(Some(place.clone()), |stored| lost(&place, value, stored))
        }),
        (Value::Array(written), Value::Array(stored)) if written.len() == stored.len() => {
            let pairs = written.iter().zip(stored).enumerate();
            pairs.into_iter().find_map(|(index, (written, stored))| lost(&format!("{place}[{index}]"), written, stored))
        }
        (Value::Number(written), Value::Number(stored)) if written.as_f64() == stored.as_f64() => None,
        (written, stored) => (written != stored).then(|| place.to_owned()),
    }
}

#[test]
fn a_loss_is_found() {
    let written = serde_json::json!({"a": [{"b": 1}, {"c": {"d": "e"}}]});
    let mut stored = written.clone();
    stored["f"] = 1.into();
    assert_eq!(lost("spec", &written, &stored), None);
    stored["a"][1]["c"] = serde_json::json!({});
    assert_eq!(lost("spec", &written, &stored).as_deref(), Some("spec.a[1].c.d"));
    stored["a"][0]["b"] = 2.into();
    assert_eq!(lost("spec", &written, &stored).as_deref(), Some("spec.a[0].b"));
}
