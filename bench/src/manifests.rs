//! Manifests as templates, and the objects that are made of them.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use futures::lock::Mutex;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::Client;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind, TypeMeta};
use kube::discovery::{Scope, pinned_kind};
use minijinja::{Environment, UndefinedBehavior};
use serde::Serialize;
use serde_json::{Value, json};
use tokio::time::sleep;

/// How many objects are made at a time.
const AT_A_TIME: usize = 24;

/// A definition is served a moment after it is made; many of them take longer.
const SERVED: Duration = Duration::from_mins(1);

/// The variables of a template.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Variables {
    /// The app's.
    pub name: String,
    /// The app's.
    pub namespace: String,
    /// What its pods run.
    pub image: String,
    /// Between two checks, like `10s`.
    pub interval: String,
    /// How much the weight rises with each step.
    pub step_weight: u8,
    /// The weight of the last step.
    pub max_weight: u8,
    /// How many steps there are.
    pub steps: u8,
    /// The address of Prometheus.
    pub prometheus: String,
    /// The address of a webhook; none, without webhooks.
    pub hook: Option<String>,
    /// A ConfigMap that the app uses; none, without.
    pub config: Option<String>,
}

/// The objects that a template stands for, with these variables. A name that is none of them is an error.
///
/// # Errors
/// When it is no template, or what comes out is no YAML.
pub fn render(template: &str, variables: &Variables) -> Result<Vec<Value>> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let text = environment.render_str(template, minijinja::value::Serde(variables))?;
    parse(&text)
}

/// The objects of a YAML or JSON text; those of a List one by one.
///
/// # Errors
/// When it is neither.
pub fn parse(text: &str) -> Result<Vec<Value>> {
    let mut objects = vec![];
    for document in text.split("\n---").map(|document| document.trim_start_matches("---").trim()) {
        let value: Value = serde_saphyr::from_str(document).context("it is no YAML")?;
        match value {
            Value::Null => {}
            Value::Object(mut list) if list.get("kind").is_some_and(|kind| kind == "List") => {
                let items = list.remove("items").unwrap_or_default();
                objects.extend(items.as_array().cloned().unwrap_or_default());
            }
            value => objects.push(value),
        }
    }
    Ok(objects)
}

/// The objects of a file, or of all files of a directory in the order of their names.
///
/// # Errors
/// When one cannot be read.
pub fn read(path: &Path, variables: Option<&Variables>) -> Result<Vec<Value>> {
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(|| path.display().to_string())?;
        files = entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
        files.sort();
    }
    let mut objects = vec![];
    for file in files {
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let found = if let Some(variables) = variables { render(&text, variables) } else { parse(&text) };
        objects.extend(found.with_context(|| file.display().to_string())?);
    }
    Ok(objects)
}

/// Makes objects of any kind that the API server serves.
pub struct Maker {
    client: Client,
    kinds: Mutex<HashMap<GroupVersionKind, (ApiResource, Scope)>>,
}

impl Maker {
    /// One that knows no kind yet.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, kinds: Mutex::default() }
    }

    /// Makes an object; that it is there already is as good.
    ///
    /// # Errors
    /// When the API server does not know its kind after a while, or refuses it.
    pub async fn make(&self, value: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(value).context("it is no object")?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let api = self.api(&object).await?;
        match api.create(&PostParams::default(), &object).await {
            Err(kube::Error::Api(status)) if status.code == 409 && status.reason == "AlreadyExists" => Ok(()),
            result => result.map(drop).with_context(|| format!("make {name}")),
        }
    }

    /// Makes many, in no order.
    ///
    /// # Errors
    /// As for one.
    pub async fn make_all(&self, objects: impl IntoIterator<Item = Value>) -> Result<()> {
        stream::iter(objects).map(|object| self.make(object)).buffer_unordered(AT_A_TIME).try_collect().await
    }

    async fn api(&self, object: &DynamicObject) -> Result<Api<DynamicObject>> {
        let types = object.types.as_ref().context("it has no kind")?;
        let (resource, scope) = self.kind(types).await?;
        let client = self.client.clone();
        Ok(match (scope, &object.metadata.namespace) {
            (Scope::Cluster, _) => Api::all_with(client, &resource),
            (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client, namespace, &resource),
            (Scope::Namespaced, None) => Api::default_namespaced_with(client, &resource),
        })
    }

    async fn kind(&self, types: &TypeMeta) -> Result<(ApiResource, Scope)> {
        let kind = GroupVersionKind::try_from(types)?;
        let mut kinds = self.kinds.lock().await;
        if let Some(known) = kinds.get(&kind) {
            return Ok(known.clone());
        }
        let begin = Instant::now();
        loop {
            match pinned_kind(&self.client, &kind).await {
                Ok((resource, capabilities)) => {
                    let known = (resource, capabilities.scope);
                    kinds.insert(kind, known.clone());
                    return Ok(known);
                }
                Err(error) if begin.elapsed() > SERVED => bail!("{kind:?} is not served: {error}"),
                Err(_) => sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

/// A namespace.
#[must_use]
pub fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        Variables {
            name: "app00001".into(),
            namespace: "bench-000".into(),
            image: "app:1".into(),
            interval: "10s".into(),
            step_weight: 10,
            max_weight: 50,
            steps: 5,
            ..Variables::default()
        }
    }

    #[test]
    fn the_built_in_templates_are_whole() {
        let canary = render(include_str!("../templates/canary.yaml"), &variables()).unwrap().remove(0);
        assert_eq!(canary["spec"]["analysis"]["interval"], "10s");
        assert!(canary["spec"]["analysis"]["webhooks"].is_null());
        let hook = Some("http://127.0.0.1:1/hook".to_owned());
        let canary =
            render(include_str!("../templates/canary.yaml"), &Variables { hook, ..variables() }).unwrap().remove(0);
        assert_eq!(canary["spec"]["analysis"]["webhooks"][1]["url"], "http://127.0.0.1:1/hook");
        let deployment = include_str!("../templates/deployment.yaml");
        let config = Some("settings".to_owned());
        let deployment = render(deployment, &Variables { config, ..variables() }).unwrap().remove(0);
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "app:1");
        assert_eq!(container["envFrom"][0]["configMapRef"]["name"], "settings");
    }

    #[test]
    fn a_variable_that_is_none_is_an_error() {
        assert!(render("kind: {{ nmae }}", &variables()).is_err());
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let objects = parse("---\nkind: A\n---\n# nothing\n---\nkind: List\nitems: [{kind: B}, {kind: C}]\n").unwrap();
        assert_eq!(objects, [json!({"kind": "A"}), json!({"kind": "B"}), json!({"kind": "C"})]);
        assert_eq!(parse(r#"{"kind": "List", "items": [{"kind": "B"}]}"#).unwrap(), [json!({"kind": "B"})]);
    }
}
