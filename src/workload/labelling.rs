//! Labels and annotations of the target itself that its primary is to have too.
//!
//! Invariant: what a tool knows its own objects by is never copied: on the primary it would make the tool prune or
//! overwrite it. A key that is copied no longer goes from the primary, and nobody else's key does.

use super::Selector;
use crate::object;
use serde_json::{Map, Value, json};

/// What the operator was told about labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labelling {
    /// The labels that can tell primary and canary apart, in the order in which they are looked for.
    pub selectors: Vec<String>,
    /// Prefixes of the labels and annotations that are copied; `*` is all of them.
    pub included: Vec<String>,
}

impl Default for Labelling {
    fn default() -> Self {
        Self { selectors: ["app", "name", "app.kubernetes.io/name"].map(str::to_owned).into(), included: vec![] }
    }
}

/// Remembers on the primary which keys were copied.
const COPIED: &str = "serin.dev/copied";

/// Domains whose keys belong to a tool; their subdomains too.
const TOOLS: [&str; 9] = [
    "toolkit.fluxcd.io",
    "argocd.argoproj.io",
    "applyset.kubernetes.io",
    "autoscaling.alpha.kubernetes.io",
    "deployment.kubernetes.io",
    "keda.sh",
    "meta.helm.sh",
    "objectset.rio.cattle.io",
    "serin.dev",
];

/// Keys of tools in domains that others use as well. The API server counts the last one by itself.
const BOOKKEEPING: [&str; 3] = [
    "app.kubernetes.io/managed-by",
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.daemonset.template.generation",
];

/// Gives the primary the labels and annotations of the target that `included` says, as they are now.
pub(super) fn follow(primary: &mut Value, target: &Value, included: &[String], selector: &Selector) {
    let copied = object::get(primary, &["metadata", "annotations", COPIED]).and_then(Value::as_str);
    let before: Value = copied.and_then(|copied| serde_json::from_str(copied).ok()).unwrap_or_default();
    let mut now = Map::new();
    for kind in ["labels", "annotations"] {
        let wanted = wanted(target, kind, included, selector);
        let gone = before.get(kind).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let gone: Vec<_> = gone.filter(|key| !wanted.iter().any(|(wanted, _)| wanted == key)).collect();
        object::remove_metadata(primary, kind, &gone);
        object::set_metadata(primary, kind, wanted.iter().copied());
        if !wanted.is_empty() {
            now.insert(kind.to_owned(), wanted.iter().map(|(key, _)| *key).collect());
        }
    }
    if now.is_empty() {
        object::remove_metadata(primary, "annotations", &[COPIED]);
    } else {
        object::set_metadata(primary, "annotations", [(COPIED, json!(now).to_string().as_str())]);
    }
}

fn wanted<'a>(target: &'a Value, kind: &str, included: &[String], selector: &Selector) -> Vec<(&'a str, &'a str)> {
    let entries = object::get(target, &["metadata", kind]).and_then(Value::as_object).into_iter().flatten();
    let entries = entries.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let is_included = |key: &str| included.iter().any(|prefix| prefix == "*" || key.starts_with(prefix.as_str()));
    entries.filter(|(key, _)| is_included(key) && *key != selector.key && !is_bookkeeping(key)).collect()
}

fn is_bookkeeping(key: &str) -> bool {
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let belongs_to = |tool: &str| domain.strip_suffix(tool).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
    TOOLS.into_iter().any(belongs_to) || BOOKKEEPING.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Value {
        json!({"metadata": {
            "labels": {
                "app": "web", "team": "blue", "example.com/cost": "7", "app.kubernetes.io/managed-by": "Helm",
                "kustomize.toolkit.fluxcd.io/name": "shop", "argocd.argoproj.io/instance": "shop",
                "applyset.kubernetes.io/part-of": "shop",
            },
            "annotations": {
                "example.com/owner": "ann", "kubectl.kubernetes.io/last-applied-configuration": "{}",
                "deployment.kubernetes.io/revision": "3", "meta.helm.sh/release-name": "shop",
                "argocd.argoproj.io/tracking-id": "shop", "helm.toolkit.fluxcd.io/driftDetection": "enabled",
                "deprecated.daemonset.template.generation": "2", "serin.dev/revision": "evil",
            },
        }})
    }

    fn followed(primary: &Value, target: &Value, included: &[&str]) -> Value {
        let mut primary = primary.clone();
        let included: Vec<_> = included.iter().map(|prefix| (*prefix).to_owned()).collect();
        follow(&mut primary, target, &included, &Selector { key: "app".into(), value: "web".into() });
        primary
    }

    fn made() -> Value {
        json!({"metadata": {"labels": {"app": "web-primary"}, "annotations": {"serin.dev/revision": "abc"}}})
    }

    #[test]
    fn nothing_is_copied_unasked() {
        assert_eq!(followed(&made(), &target(), &[]), made());
    }

    #[test]
    fn all_is_all_but_the_bookkeeping_of_tools() {
        insta::assert_yaml_snapshot!(followed(&made(), &target(), &["*"]), @r#"
        metadata:
          annotations:
            example.com/owner: ann
            serin.dev/copied: "{\"annotations\":[\"example.com/owner\"],\"labels\":[\"example.com/cost\",\"team\"]}"
            serin.dev/revision: abc
          labels:
            app: web-primary
            example.com/cost: "7"
            team: blue
        "#);
    }

    #[test]
    fn a_prefix_is_the_beginning_of_a_key() {
        let followed = followed(&made(), &target(), &["example.com/", "tea"]);
        assert_eq!(
            followed["metadata"]["labels"],
            json!({"app": "web-primary", "example.com/cost": "7", "team": "blue"})
        );
        assert_eq!(followed["metadata"]["annotations"]["example.com/owner"], "ann");
    }

    #[test]
    fn what_leaves_the_target_leaves_the_primary_and_nothing_else_does() {
        let mut primary = followed(&made(), &target(), &["*"]);
        primary["metadata"]["labels"]["seen-by"] = "somebody else".into();
        let mut changed = target();
        changed["metadata"]["labels"] = json!({"team": "green"});
        let followed = followed(&primary, &changed, &["*"]);
        assert_eq!(
            followed["metadata"]["labels"],
            json!({"app": "web-primary", "team": "green", "seen-by": "somebody else"})
        );
        let mut clean = super::tests::followed(&followed, &changed, &[]);
        clean["metadata"]["labels"].as_object_mut().unwrap().remove("seen-by");
        assert_eq!(clean, made(), "and when nothing is included any more, all goes");
    }
}
