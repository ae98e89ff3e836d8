//! The app that is rolled out, and what can be asked of it and of its Canary.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::canary::Canary;
use crate::load::{Gateway, Load, Record, Report};
use crate::objects::{Kind, Objects};
use crate::recording::Recording;
use crate::status::Status;
use crate::wait::{once, wait_for};

/// The rate of steady load, in requests a second: a tenth of it is enough for a verdict on a canary at 10 %.
pub const RATE: u32 = 60;

/// Pods of the demo app are there in two seconds; a busy machine with thirty of them takes its time.
const READY_LIMIT: Duration = Duration::from_mins(2);

/// A version of the demo app, and how it misbehaves.
#[derive(Clone, Debug)]
pub struct Version {
    name: String,
    image: String,
    fault_percent: u32,
    delay_milliseconds: u32,
    ready: bool,
}

/// The weights of a route, in percent as Serin writes them.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Split {
    pub primary: i64,
    pub canary: i64,
}

/// A Deployment or DaemonSet with its Service, its route and, once applied, its Canary, all of one name.
#[derive(Clone)]
pub struct App {
    objects: Objects,
    gateway: Gateway,
    name: String,
    host: String,
    workload: Kind,
}

impl Version {
    #[must_use]
    pub fn good(name: &str) -> Self {
        let image = "docker.io/local/demo-app:latest".to_owned();
        Self { name: name.to_owned(), image, fault_percent: 0, delay_milliseconds: 0, ready: true }
    }

    /// Its image was never built.
    #[must_use]
    pub fn without_image(self) -> Self {
        Self { image: "docker.io/local/demo-app:never-built".to_owned(), ..self }
    }

    /// Of a hundred requests, so many fail with 500.
    #[must_use]
    pub fn failing(self, percent: u32) -> Self {
        Self { fault_percent: percent, ..self }
    }

    #[must_use]
    pub fn slow(self, milliseconds: u32) -> Self {
        Self { delay_milliseconds: milliseconds, ..self }
    }

    #[must_use]
    pub fn never_ready(self) -> Self {
        Self { ready: false, ..self }
    }

    /// What a ConfigMap holds that makes an app behave as this version does; see [`App::deploy_configured`].
    #[must_use]
    pub fn settings(&self) -> Value {
        json!({
            "VERSION": self.name,
            "FAULT_PERCENT": self.fault_percent.to_string(),
            "DELAY_MS": self.delay_milliseconds.to_string(),
            "READY": self.ready.to_string(),
        })
    }

    fn containers(&self) -> Value {
        json!([{
            "name": "app",
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "env": [
                {"name": "VERSION", "value": self.name},
                {"name": "FAULT_PERCENT", "value": self.fault_percent.to_string()},
                {"name": "DELAY_MS", "value": self.delay_milliseconds.to_string()},
                {"name": "READY", "value": self.ready.to_string()},
            ],
            "ports": [{"name": "http", "containerPort": 8080}],
            "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http"}, "periodSeconds": 1},
            // No limit of CPU: a throttled pod would look like a slow version.
            "resources": {"requests": {"cpu": "1m", "memory": "8Mi"}, "limits": {"memory": "64Mi"}},
        }])
    }
}

impl Split {
    /// The weights that a route gives to the two Services of an app; nothing when it does not name them.
    #[must_use]
    pub fn of(route: &Value, app: &str) -> Option<Self> {
        let weight = |service: &str| {
            let backends = route["spec"]["rules"].as_array()?.iter().filter_map(|rule| rule["backendRefs"].as_array());
            let mut named = backends.flatten().filter(|backend| backend["name"] == service);
            // The weight of a backend that names none is 1.
            named.next().map(|backend| backend["weight"].as_i64().unwrap_or(1))
        };
        let primary = weight(&format!("{app}-primary"))?;
        Some(Self { primary, canary: weight(&format!("{app}-canary")).unwrap_or_default() })
    }

    /// Writes the weights into a route, as somebody would who does not know about Serin.
    pub fn write_into(self, route: &mut Value, app: &str) {
        let rules = route["spec"]["rules"].as_array_mut().into_iter().flatten();
        for backend in rules.filter_map(|rule| rule["backendRefs"].as_array_mut()).flatten() {
            if backend["name"] == format!("{app}-primary") {
                backend["weight"] = json!(self.primary);
            } else if backend["name"] == format!("{app}-canary") {
                backend["weight"] = json!(self.canary);
            }
        }
    }
}

/// The version that a pod template deploys.
#[must_use]
pub fn version_of(template: &Value) -> Option<String> {
    let variables = template["spec"]["containers"][0]["env"].as_array()?;
    let version = variables.iter().find(|variable| variable["name"] == "VERSION")?;
    Some(version["value"].as_str()?.to_owned())
}

impl App {
    #[must_use]
    pub fn new(objects: &Objects, gateway: &Gateway, name: &str, host: &str) -> Self {
        Self {
            objects: objects.clone(),
            gateway: gateway.clone(),
            name: name.to_owned(),
            host: host.to_owned(),
            workload: Kind::Deployment,
        }
    }

    /// The same as a DaemonSet; numbers of replicas then mean nothing, there is a pod on each node.
    #[must_use]
    pub fn as_daemon_set(self) -> Self {
        Self { workload: Kind::DaemonSet, ..self }
    }

    /// The same, as one client sees it who sends this header.
    ///
    /// # Errors
    /// When it is no header.
    pub fn seen_with(&self, name: &'static str, value: &str) -> Result<Self> {
        Ok(Self { gateway: self.gateway.with_header(name, value)?, ..self.clone() })
    }

    /// The same, as clients within the cluster see it: by the address of its Service.
    ///
    /// # Errors
    /// When there is no such Service, or it has no address.
    pub async fn seen_within(&self) -> Result<Self> {
        let service = self.objects.get(Kind::Service, &self.name).await?;
        let address = service["spec"]["clusterIP"].as_str().context("the Service has an address")?;
        let address = format!("{address}:80").parse().context("it is one")?;
        Ok(Self { gateway: Gateway::of_service(address)?, ..self.clone() })
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn primary(&self) -> String {
        format!("{}-primary", self.name)
    }

    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    // ---- doing

    /// Deploys the app as its users know it before Serin: its workload, a Service and a route to it.
    ///
    /// # Errors
    /// When an object is refused.
    pub async fn deploy(&self, version: &Version, replicas: u32) -> Result<()> {
        self.objects.create(self.workload, self.workload(version, replicas)).await?;
        self.objects.create(Kind::Service, self.service()).await?;
        self.objects.create(Kind::HttpRoute, self.route()).await
    }

    /// Deploys the app without Service and route.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn deploy_alone(&self, version: &Version, replicas: u32) -> Result<()> {
        self.objects.create(self.workload, self.workload(version, replicas)).await
    }

    /// Deploys the app for clients within the cluster only: Prometheus reads its own metrics.
    ///
    /// # Errors
    /// When an object is refused.
    pub async fn deploy_within(&self, version: &Version, replicas: u32) -> Result<()> {
        let mut workload = self.workload(version, replicas);
        let scraped = json!({"prometheus.io/scrape": "true", "prometheus.io/port": "8080"});
        workload["spec"]["template"]["metadata"]["annotations"] = scraped;
        self.objects.create(self.workload, workload).await?;
        self.objects.create(Kind::Service, self.service()).await
    }

    /// Waits until all replicas are ready and the gateway knows the way to them.
    ///
    /// # Errors
    /// When they do not become ready in time.
    pub async fn serves(&self, replicas: u32) -> Result<()> {
        let what = format!("{}: {replicas} replicas are available", self.name);
        let available = async || {
            let status = self.objects.get(self.workload, &self.name).await?["status"].take();
            Ok(once(match self.workload {
                Kind::DaemonSet => {
                    status["numberAvailable"].is_u64() && status["numberAvailable"] == status["desiredNumberScheduled"]
                }
                _ => status["availableReplicas"].as_u64() == Some(replicas.into()),
            }))
        };
        wait_for(&what, READY_LIMIT, available).await?;
        let answers = async || Ok(once(self.burst(20, 4).await?.failed() == 0));
        wait_for(&format!("{}: the gateway answers", self.name), READY_LIMIT, answers).await
    }

    /// # Errors
    /// When the Canary is refused.
    pub async fn apply(&self, canary: &Canary) -> Result<()> {
        let manifest = canary.manifest(self.objects.namespace(), &self.name, &self.host);
        self.objects.create(Kind::Canary, manifest).await
    }

    /// Deploys the app, applies its Canary, and waits until Serin has taken over.
    ///
    /// # Errors
    /// When that does not happen in time.
    pub async fn start(&self, version: &Version, replicas: u32, canary: &Canary) -> Result<()> {
        self.deploy(version, replicas).await?;
        self.serves(replicas).await?;
        self.apply(canary).await?;
        self.initialized().await
    }

    /// # Errors
    /// When Serin does not take over in time.
    pub async fn initialized(&self) -> Result<()> {
        self.status_where("is Initialized", READY_LIMIT, |status| status.phase == "Initialized").await?;
        Ok(())
    }

    /// Sets the version of the Deployment, as a user's pipeline would.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn set_version(&self, version: &Version) -> Result<()> {
        println!("  → {} gets {version:?}", self.name);
        let patch = json!({"spec": {"template": {"spec": {"containers": version.containers()}}}});
        self.objects.merge(self.workload, &self.name, patch).await
    }

    /// Deploys the app so that ConfigMap `<name>-settings` says which version it is, and Secret `<name>-token` is mounted.
    ///
    /// # Errors
    /// When an object is refused.
    pub async fn deploy_configured(&self, version: &Version, replicas: u32) -> Result<()> {
        let (settings, token) = (format!("{}-settings", self.name), format!("{}-token", self.name));
        let map = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": settings}, "data": version.settings(),
        });
        self.objects.create(Kind::ConfigMap, map).await?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": token}, "stringData": {"token": "one"},
        });
        self.objects.create(Kind::Secret, secret).await?;
        let mut workload = self.workload(version, replicas);
        let spec = &mut workload["spec"]["template"]["spec"];
        spec["volumes"] = json!([{"name": "token", "secret": {"secretName": token}}]);
        let container = &mut spec["containers"][0];
        container["env"] = Value::Null;
        container["envFrom"] = json!([{"configMapRef": {"name": settings}}]);
        container["volumeMounts"] = json!([{"name": "token", "mountPath": "/token"}]);
        self.objects.create(self.workload, workload).await?;
        self.objects.create(Kind::Service, self.service()).await?;
        self.objects.create(Kind::HttpRoute, self.route()).await
    }

    /// Changes the ConfigMap of an app that was deployed with one.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn configure(&self, version: &Version) -> Result<()> {
        println!("  → the ConfigMap of {} says {version:?}", self.name);
        let patch = json!({"data": version.settings()});
        self.objects.merge(Kind::ConfigMap, &format!("{}-settings", self.name), patch).await
    }

    /// Sets the version, waits until Serin has seen it, and answers with its revision.
    ///
    /// # Errors
    /// When Serin does not see it in time.
    pub async fn roll_out(&self, version: &Version) -> Result<String> {
        let before = self.status().await?.candidate().to_owned();
        self.set_version(version).await?;
        self.new_candidate(&before).await
    }

    /// Waits until there is another candidate than `before`, and answers with its revision.
    ///
    /// # Errors
    /// When Serin does not see one in time.
    pub async fn new_candidate(&self, before: &str) -> Result<String> {
        let seen = |status: &Status| !status.candidate().is_empty() && status.candidate() != before;
        let status = self.status_where("has a new candidate", Duration::from_secs(20), seen).await?;
        Ok(status.candidate().to_owned())
    }

    /// Deletes the Canary and waits until it is gone.
    ///
    /// # Errors
    /// When it does not go in time.
    pub async fn delete_canary(&self) -> Result<()> {
        self.objects.delete(Kind::Canary, &self.name).await?;
        let gone = async || Ok(once(self.objects.find(Kind::Canary, &self.name).await?.is_none()));
        wait_for(&format!("{}: the Canary is gone", self.name), Duration::from_mins(1), gone).await
    }

    /// Overwrites the weights of the route by hand.
    ///
    /// # Errors
    /// When the route does not split, or the API server refuses.
    pub async fn overwrite_split(&self, split: Split) -> Result<()> {
        let mut route = self.objects.get(Kind::HttpRoute, &self.name).await?;
        ensure!(Split::of(&route, &self.name).is_some(), "the route does not name the primary: {}", route["spec"]);
        split.write_into(&mut route, &self.name);
        // A patch and not a replacement: the gateway writes its status at any time, and that would be a conflict.
        let patch = json!({"spec": {"rules": route["spec"]["rules"]}});
        self.objects.merge(Kind::HttpRoute, &self.name, patch).await
    }

    /// # Errors
    /// Never at the rate of the scenarios.
    pub fn load(&self) -> Result<Load> {
        Load::start(&self.gateway, &self.host, RATE)
    }

    /// # Errors
    /// When the burst is larger than a load may be.
    pub async fn burst(&self, count: usize, concurrency: usize) -> Result<Report> {
        self.gateway.burst(&self.host, count, concurrency).await
    }

    /// One request, with everything that is known of its answer.
    pub async fn ask(&self) -> Record {
        self.gateway.request(&self.host).await
    }

    /// Starts to record what changes.
    #[must_use]
    pub fn record(&self) -> Recording {
        Recording::start(&self.objects, &self.name, self.workload)
    }

    // ---- asking

    /// # Errors
    /// When there is no Canary, or its status is not what the API promises.
    pub async fn status(&self) -> Result<Status> {
        Status::of(&self.objects.get(Kind::Canary, &self.name).await?)
    }

    /// # Errors
    /// When there is no route.
    pub async fn split(&self) -> Result<Option<Split>> {
        Ok(Split::of(&self.objects.get(Kind::HttpRoute, &self.name).await?, &self.name))
    }

    /// The pods that a workload wants and those that it has, ready or not.
    ///
    /// # Errors
    /// When there is no such workload.
    pub async fn replicas(&self, workload: &str) -> Result<(u64, u64)> {
        let workload = self.objects.get(self.workload, workload).await?;
        let number = |field: &str| workload["status"][field].as_u64().unwrap_or_default();
        if self.workload == Kind::DaemonSet {
            // Until its controller has looked, the numbers are about what was wanted before.
            let looked = workload["status"]["observedGeneration"] == workload["metadata"]["generation"];
            let wanted = if looked { number("desiredNumberScheduled") } else { u64::MAX };
            return Ok((wanted, number("currentNumberScheduled") + number("numberMisscheduled")));
        }
        Ok((workload["spec"]["replicas"].as_u64().unwrap_or(1), number("replicas")))
    }

    /// The pod template of a workload.
    ///
    /// # Errors
    /// When there is no such workload.
    pub async fn template(&self, workload: &str) -> Result<Value> {
        Ok(self.objects.get(self.workload, workload).await?["spec"]["template"].take())
    }

    /// The events about the Canary with a reason: their sentences.
    ///
    /// # Errors
    /// When the API server does not answer.
    pub async fn events(&self, reason: &str) -> Result<Vec<String>> {
        let events = self.objects.list(Kind::Event, "").await?;
        let ours = events.iter().filter(|event| {
            let regarding = &event["regarding"];
            regarding["kind"] == "Canary" && regarding["name"] == self.name.as_str() && event["reason"] == reason
        });
        Ok(ours.map(|event| event["note"].as_str().unwrap_or_default().to_owned()).collect())
    }

    // ---- waiting

    /// Waits for a status.
    ///
    /// # Errors
    /// When it does not come in time.
    pub async fn status_where(&self, what: &str, limit: Duration, holds: impl Fn(&Status) -> bool) -> Result<Status> {
        let question = async || Ok(Some(self.status().await?).filter(&holds));
        wait_for(&format!("{} {what}", self.name), limit, question).await
    }

    /// Waits until a revision has reached a step.
    ///
    /// # Errors
    /// When it ends before, or does not get there in time.
    pub async fn reaches_step(&self, revision: &str, step: i64) -> Result<Status> {
        let what = format!("{}: revision {revision} reaches step {step}", self.name);
        let question = async || {
            let status = self.status().await?;
            if status.ended(revision) {
                bail!("the rollout ended as {} before: {:?}", status.phase, status.history.last());
            }
            Ok(Some(status).filter(|status| status.candidate() == revision && status.step >= step))
        };
        wait_for(&what, Duration::from_secs(90), question).await
    }

    /// Waits for the end of a rollout, whatever it is.
    ///
    /// # Errors
    /// When it does not end in time.
    pub async fn ends(&self, revision: &str, limit: Duration) -> Result<Status> {
        self.status_where("has ended its rollout", limit, |status| status.ended(revision)).await
    }

    /// Waits for the end of a rollout, and insists on how it ends.
    ///
    /// # Errors
    /// When it ends otherwise, or not in time.
    pub async fn ends_as(&self, phase: &str, revision: &str, limit: Duration) -> Result<Status> {
        let status = self.ends(revision, limit).await?;
        ensure!(status.phase == phase, "ended as {} and not as {phase}: {:#?}", status.phase, status.history);
        Ok(status)
    }

    /// Waits until the canary has no pods.
    ///
    /// # Errors
    /// When it still has some after the drain delay and the grace period of its pods, and the time that a busy kubelet
    /// takes to notice.
    pub async fn scaled_down(&self) -> Result<()> {
        let what = format!("{}: the canary has no pods", self.name);
        let empty = async || Ok(once(self.replicas(&self.name).await? == (0, 0)));
        wait_for(&what, Duration::from_secs(90), empty).await
    }

    /// Waits until requests lead to this version alone. A gateway or kube-proxy on a busy machine takes its time to follow
    /// what it is told; from then on there is no exception.
    ///
    /// # Errors
    /// When that is not so within the limit, or a request fails.
    pub async fn leads_to(&self, version: &str, limit: Duration) -> Result<()> {
        let question = async || {
            let burst = self.burst(20, 4).await?;
            burst.all_succeeded()?;
            Ok(once(burst.answered_by(version) == burst.total()))
        };
        wait_for(&format!("{}: requests lead to {version}", self.name), limit, question).await
    }

    /// Waits until the route has a split.
    ///
    /// # Errors
    /// When it does not get it in time.
    pub async fn splits(&self, split: Split, limit: Duration) -> Result<()> {
        let question = async || Ok(once(self.split().await? == Some(split)));
        wait_for(&format!("{}: the route has {split:?}", self.name), limit, question).await
    }

    // ---- objects

    fn workload(&self, version: &Version, replicas: u32) -> Value {
        let labels = json!({"app": self.name});
        let mut workload = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": self.name, "labels": labels},
            "spec": {
                "replicas": replicas,
                "minReadySeconds": 0,
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "automountServiceAccountToken": false,
                        "terminationGracePeriodSeconds": 10,
                        "containers": version.containers(),
                    },
                },
            },
        });
        if self.workload == Kind::DaemonSet {
            workload["kind"] = json!("DaemonSet");
            // The gateway is to know the only pod of a node before it counts.
            workload["spec"]["minReadySeconds"] = json!(1);
            workload["spec"].as_object_mut().into_iter().for_each(|spec| drop(spec.remove("replicas")));
        }
        workload
    }

    fn service(&self) -> Value {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": self.name, "labels": {"app": self.name}},
            "spec": {"selector": {"app": self.name}, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]},
        })
    }

    fn route(&self) -> Value {
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": self.name, "labels": {"app": self.name}},
            "spec": {
                "parentRefs": [{"name": "gateway", "namespace": "gateway-system"}],
                "hostnames": [self.host],
                "rules": [{
                    "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                    "backendRefs": [{"name": self.name, "port": 80}],
                }],
            },
        })
    }
}

/// The revisions of a Canary that Serin has on record.
///
/// # Errors
/// When the API server does not answer.
pub async fn recorded_revisions(app: &App) -> Result<Vec<Value>> {
    let revisions = app.objects().list(Kind::ControllerRevision, &format!("serin.dev/canary={}", app.name())).await;
    revisions.context("list the recorded revisions")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_and_written_where_the_services_are_named() {
        let mut route = json!({"spec": {"rules": [
            {"backendRefs": [{"name": "other", "weight": 5}]},
            {"backendRefs": [{"name": "app-primary", "weight": 80}, {"name": "app-canary", "weight": 20}]},
        ]}});
        assert_eq!(Split::of(&route, "app"), Some(Split { primary: 80, canary: 20 }));
        Split { primary: 0, canary: 100 }.write_into(&mut route, "app");
        assert_eq!(Split::of(&route, "app"), Some(Split { primary: 0, canary: 100 }));
        assert_eq!(route["spec"]["rules"][0]["backendRefs"][0]["weight"], 5);
        assert_eq!(Split::of(&json!({"spec": {"rules": [{"backendRefs": [{"name": "app"}]}]}}), "app"), None);
        assert_eq!(Split::of(&json!({"spec": {}}), "app"), None);
    }

    #[test]
    fn the_version_of_a_template() {
        let version = Version::good("v2").failing(30).slow(5).never_ready();
        let template = json!({"spec": {"containers": version.containers()}});
        assert_eq!(version_of(&template).as_deref(), Some("v2"));
        assert_eq!(template["spec"]["containers"][0]["env"][3], json!({"name": "READY", "value": "false"}));
        assert_eq!(version_of(&json!({})), None);
    }
}
