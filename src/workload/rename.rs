//! The primary's pod template: the recorded one, in which the app's own label has the primary's value.
//!
//! Invariant: nothing else changes, because what is promoted is what was analysed (S3). Where the template speaks of
//! its own pods, as rules of affinity and spread do, it speaks of the primary's.

use super::Selector;
use crate::object;
use serde_json::Value;

/// The template with everything that means the app's own pods meaning the primary's.
pub(super) fn renamed(template: &Value, selector: &Selector, namespace: &str) -> Value {
    let Selector { key, value } = selector;
    Rename { key, from: value, to: &selector.primary(), namespace }.carry_out(template)
}

/// The way back: what the template of a primary was.
pub(super) fn original(template: &Value, selector: &Selector, namespace: &str) -> Value {
    let Selector { key, value } = selector;
    Rename { key, from: &selector.primary(), to: value, namespace }.carry_out(template)
}

/// One value of one label becomes another, wherever it means the app's own pods.
struct Rename<'a> {
    key: &'a str,
    from: &'a str,
    to: &'a str,
    namespace: &'a str,
}

impl Rename<'_> {
    fn carry_out(&self, template: &Value) -> Value {
        let mut template = template.clone();
        object::set(&mut template, &["metadata", "labels", self.key], self.to.into());
        let Some(spec) = template.get_mut("spec") else { return template };
        for affinity in ["podAffinity", "podAntiAffinity"] {
            let required = format!("/affinity/{affinity}/requiredDuringSchedulingIgnoredDuringExecution");
            for term in list(spec, &required) {
                self.term(term);
            }
            let preferred = format!("/affinity/{affinity}/preferredDuringSchedulingIgnoredDuringExecution");
            for term in list(spec, &preferred).filter_map(|weighted| weighted.get_mut("podAffinityTerm")) {
                self.term(term);
            }
        }
        for constraint in list(spec, "/topologySpreadConstraints") {
            self.rule(constraint);
        }
        template
    }

    /// A term that names other namespaces only is about another app of the same name.
    fn term(&self, term: &mut Value) {
        let namespaces = term.get("namespaces").and_then(Value::as_array).filter(|names| !names.is_empty());
        let elsewhere = namespaces.is_some_and(|names| !names.iter().any(|name| name == self.namespace));
        if !elsewhere || term.get("namespaceSelector").is_some() {
            self.rule(term);
        }
    }

    fn rule(&self, rule: &mut Value) {
        let Some(labels) = rule.get_mut("labelSelector") else { return };
        let label = labels.get_mut("matchLabels").and_then(|labels| labels.get_mut(self.key));
        if let Some(value) = label.filter(|value| **value == self.from) {
            *value = self.to.into();
        }
        for expression in list(labels, "/matchExpressions").filter(|expression| expression["key"] == self.key) {
            let Some(values) = expression.get_mut("values").and_then(Value::as_array_mut) else { continue };
            // Whoever names the other version too has thought of both.
            if values.iter().any(|value| value == self.to) {
                continue;
            }
            for value in values.iter_mut().filter(|value| **value == self.from) {
                *value = self.to.into();
            }
        }
    }
}

fn list<'a>(spec: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    spec.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn selector() -> Selector {
        Selector { key: "app".into(), value: "web".into() }
    }

    fn with(spec: &Value) -> Value {
        let template = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}, "spec": spec});
        let renamed = renamed(&template, &selector(), "shop");
        assert_eq!(renamed["metadata"]["labels"], json!({"app": "web-primary", "tier": "front"}));
        renamed["spec"].clone()
    }

    #[test]
    fn rules_about_the_apps_own_pods_follow_the_rename() {
        let rules = |name: &str| {
            let labels = json!({"matchLabels": {"app": name, "tier": "front"}});
            let expressions = json!({"matchExpressions": [
                {"key": "app", "operator": "In", "values": [name, "other"]},
                {"key": "tier", "operator": "In", "values": ["web"]},
                {"key": "app", "operator": "Exists"},
            ]});
            let affinity = json!({
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": labels},
                    {"topologyKey": "zone", "labelSelector": expressions},
                ],
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 1, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": expressions}},
                ],
            });
            json!({
                "affinity": {"podAffinity": affinity, "podAntiAffinity": affinity, "nodeAffinity": {"app": "web"}},
                "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "labelSelector": labels}],
                "containers": [{"name": "web", "args": ["--app", "web"]}],
            })
        };
        assert_eq!(with(&rules("web")), rules("web-primary"));
    }

    #[test]
    fn rules_about_anything_else_stay() {
        let term = |more: Value| {
            let mut term = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}});
            term.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}})
        };
        let label = "/affinity/podAffinity/requiredDuringSchedulingIgnoredDuringExecution/0/labelSelector/matchLabels";
        let renamed = |more: Value| with(&term(more)).pointer(label).unwrap()["app"] == "web-primary";
        assert!(!renamed(json!({"namespaces": ["elsewhere"]})), "another app of the same name");
        assert!(!renamed(json!({"labelSelector": {"matchLabels": {"app": "db"}}})));
        assert!(renamed(json!({"namespaces": ["shop", "elsewhere"]})));
        assert!(renamed(json!({"namespaceSelector": {}})));
        assert!(renamed(json!({"namespaces": []})));
    }

    #[test]
    fn whoever_names_both_versions_means_both() {
        let both = json!({"topologySpreadConstraints": [{"labelSelector": {"matchExpressions": [
            {"key": "app", "operator": "In", "values": ["web", "web-primary"]},
        ]}}]});
        assert_eq!(with(&both), both);
    }

    #[test]
    fn nothing_is_made_where_nothing_was() {
        assert_eq!(with(&json!({"affinity": {}})), json!({"affinity": {}}));
        assert_eq!(with(&json!({"topologySpreadConstraints": [{}]})), json!({"topologySpreadConstraints": [{}]}));
    }
}
