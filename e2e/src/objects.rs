//! Kubernetes objects as JSON: what users see, with no field of Serin's types in between.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, Client};
use serde_json::Value;

/// The kinds of objects that scenarios touch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    AlertProvider,
    Canary,
    ConfigMap,
    ControllerRevision,
    DaemonSet,
    Deployment,
    Event,
    HorizontalPodAutoscaler,
    HttpRoute,
    Lease,
    MetricTemplate,
    Pod,
    ScaledObject,
    Secret,
    Service,
}

/// The objects of a namespace.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    namespace: String,
}

impl Kind {
    fn resource(self) -> ApiResource {
        let (group, version, kind, plural) = match self {
            Self::AlertProvider => ("serin.dev", "v1beta1", "AlertProvider", "alertproviders"),
            Self::Canary => ("serin.dev", "v1beta1", "Canary", "canaries"),
            Self::ConfigMap => ("", "v1", "ConfigMap", "configmaps"),
            Self::ControllerRevision => ("apps", "v1", "ControllerRevision", "controllerrevisions"),
            Self::DaemonSet => ("apps", "v1", "DaemonSet", "daemonsets"),
            Self::Deployment => ("apps", "v1", "Deployment", "deployments"),
            Self::Event => ("events.k8s.io", "v1", "Event", "events"),
            // The newest version that the cluster of these scenarios knows.
            Self::HorizontalPodAutoscaler => {
                ("autoscaling", "v2beta2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
            }
            Self::HttpRoute => ("gateway.networking.k8s.io", "v1", "HTTPRoute", "httproutes"),
            Self::Lease => ("coordination.k8s.io", "v1", "Lease", "leases"),
            Self::MetricTemplate => ("serin.dev", "v1beta1", "MetricTemplate", "metrictemplates"),
            Self::Pod => ("", "v1", "Pod", "pods"),
            Self::ScaledObject => ("keda.sh", "v1alpha1", "ScaledObject", "scaledobjects"),
            Self::Secret => ("", "v1", "Secret", "secrets"),
            Self::Service => ("", "v1", "Service", "services"),
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }
}

impl Objects {
    #[must_use]
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { client, namespace: namespace.to_owned() }
    }

    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    #[must_use]
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    #[must_use]
    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), &self.namespace, &kind.resource())
    }

    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn create_namespace(&self) -> Result<()> {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(self.namespace.clone());
        namespace.metadata.labels = Some([("serin.dev/e2e".to_owned(), "true".to_owned())].into());
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.create(&PostParams::default(), &namespace).await.context("create the namespace")?;
        Ok(())
    }

    /// # Errors
    /// When the API server refuses or does not answer.
    pub async fn delete_namespace(&self) -> Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await.context("delete the namespace")?;
        Ok(())
    }

    /// # Errors
    /// When the API server does not answer; that there is no such object is an answer.
    pub async fn find(&self, kind: Kind, name: &str) -> Result<Option<Value>> {
        let found = self.api(kind).get_opt(name).await.with_context(|| format!("get {kind:?} {name}"))?;
        found.map(json).transpose()
    }

    /// # Errors
    /// When there is no such object.
    pub async fn get(&self, kind: Kind, name: &str) -> Result<Value> {
        self.find(kind, name).await?.with_context(|| format!("{kind:?} {name} does not exist"))
    }

    /// The objects of a kind; a kind that the cluster does not know has none.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn list(&self, kind: Kind, labels: &str) -> Result<Vec<Value>> {
        match self.api(kind).list(&ListParams::default().labels(labels)).await {
            Ok(list) => list.items.into_iter().map(json).collect(),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
            Err(error) => Err(error).with_context(|| format!("list {kind:?}")),
        }
    }

    /// # Errors
    /// When the object is none, or the API server refuses it.
    pub async fn create(&self, kind: Kind, object: Value) -> Result<()> {
        let refusal = self.try_create(kind, object).await?;
        refusal.map_or(Ok(()), |refusal| Err(anyhow::Error::msg(refusal)).with_context(|| format!("create {kind:?}")))
    }

    /// Creates an object, and answers with the API server's sentence when it says that the object is invalid.
    ///
    /// # Errors
    /// When the object is none, or the API server has another reason not to take it.
    pub async fn try_create(&self, kind: Kind, object: Value) -> Result<Option<String>> {
        let object = parse(object)?;
        match self.api(kind).create(&PostParams::default(), &object).await {
            Ok(_) => Ok(None),
            Err(kube::Error::Api(status)) if matches!(status.code, 400 | 403 | 422) => Ok(Some(status.message)),
            Err(error) => Err(error).with_context(|| format!("create {kind:?}")),
        }
    }

    /// What the API server would store, if the object were created; nothing is.
    ///
    /// # Errors
    /// When the object is none, or the API server refuses it.
    pub async fn try_out(&self, kind: Kind, object: Value) -> Result<Value> {
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        let stored = self.api(kind).create(&parameters, &parse(object)?).await;
        json(stored.with_context(|| format!("try {kind:?} out"))?)
    }

    /// # Errors
    /// When the API server refuses the patch.
    pub async fn merge(&self, kind: Kind, name: &str, patch: Value) -> Result<()> {
        let patched = self.api(kind).patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.with_context(|| format!("patch {kind:?} {name}"))?;
        Ok(())
    }

    /// # Errors
    /// When there is no such object.
    pub async fn delete(&self, kind: Kind, name: &str) -> Result<()> {
        let deleted = self.api(kind).delete(name, &DeleteParams::default()).await;
        deleted.with_context(|| format!("delete {kind:?} {name}"))?;
        Ok(())
    }
}

fn parse(object: Value) -> Result<DynamicObject> {
    serde_json::from_value(object).context("the object has no metadata")
}

/// The whole object as JSON.
///
/// # Errors
/// Never for an object that came from an API server.
pub fn json(object: DynamicObject) -> Result<Value> {
    serde_json::to_value(object).context("the object cannot be written as JSON")
}
