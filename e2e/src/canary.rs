//! The `Canary` of an app: short intervals, and whatever a scenario wants otherwise.

use serde_json::{Value, json};

/// A Canary in the making; without further words it checks the success rate every two seconds in steps of 10 up to 50.
#[derive(Clone, Debug)]
pub struct Canary {
    spec: Value,
}

impl Default for Canary {
    fn default() -> Self {
        Self {
            spec: json!({
                "progressDeadlineSeconds": 60,
                "service": {
                    "port": 80,
                    "targetPort": "http",
                    "gatewayRefs": [{"name": "gateway", "namespace": "gateway-system"}],
                },
                "analysis": {
                    "interval": "2s",
                    "threshold": 2,
                    "maxWeight": 50,
                    "stepWeight": 10,
                    "inconclusiveLimit": 5,
                    "onInconclusive": "Rollback",
                    "metrics": [
                        {"name": "request-success-rate", "interval": "5s", "thresholdRange": {"min": 99}},
                        {"name": "request-duration", "interval": "5s", "thresholdRange": {"max": 500}},
                    ],
                },
            }),
        }
    }
}

impl Canary {
    #[must_use]
    pub fn interval(self, seconds: u32) -> Self {
        self.analysis("interval", json!(format!("{seconds}s")))
    }

    /// Failed checks until the rollback.
    #[must_use]
    pub fn threshold(self, checks: u32) -> Self {
        self.analysis("threshold", json!(checks))
    }

    #[must_use]
    pub fn steps(self, weights: &[u32]) -> Self {
        let canary = self.analysis("stepWeights", json!(weights));
        canary.without("stepWeight").without("maxWeight")
    }

    /// So many checks in place of steps.
    #[must_use]
    pub fn iterations(self, checks: u32) -> Self {
        self.analysis("iterations", json!(checks)).without("stepWeight").without("maxWeight")
    }

    /// Without a gateway: Services alone, and the app's own metrics.
    #[must_use]
    pub fn without_route(self) -> Self {
        let canary = self.spec("provider", json!("kubernetes"));
        let requests = |code: &str| {
            let labels = format!("namespace=\"{{{{ namespace }}}}\",app=\"{{{{ target }}}}\"{code}");
            format!("sum(rate(http_requests_total{{{labels}}}[5s]))")
        };
        let query = format!("({} or vector(0)) / {} * 100", requests(",code!~\"5..\""), requests(""));
        let metric = json!([{"name": "success", "query": query, "thresholdRange": {"min": 99}}]);
        canary.spec("service", json!({"port": 80, "targetPort": "http"})).analysis("metrics", metric)
    }

    /// What happens after so many checks in a row that gave no verdict.
    #[must_use]
    pub fn on_inconclusive(self, policy: &str, limit: u32) -> Self {
        self.analysis("onInconclusive", json!(policy)).analysis("inconclusiveLimit", json!(limit))
    }

    #[must_use]
    pub fn progress_deadline(self, seconds: u32) -> Self {
        self.spec("progressDeadlineSeconds", json!(seconds))
    }

    #[must_use]
    pub fn revert_on_deletion(self) -> Self {
        self.spec("revertOnDeletion", json!(true))
    }

    /// What the target is, when it is no Deployment.
    #[must_use]
    pub fn target(self, kind: &str) -> Self {
        self.spec("targetRef", json!({"kind": kind}))
    }

    /// Sets any other field of the analysis.
    #[must_use]
    pub fn analysis(mut self, field: &str, value: Value) -> Self {
        self.spec["analysis"][field] = value;
        self
    }

    /// Sets any other field of the spec.
    #[must_use]
    pub fn spec(mut self, field: &str, value: Value) -> Self {
        self.spec[field] = value;
        self
    }

    /// Sets a field of the service.
    #[must_use]
    pub fn service(mut self, field: &str, value: Value) -> Self {
        self.spec["service"][field] = value;
        self
    }

    fn without(mut self, field: &str) -> Self {
        if let Some(analysis) = self.spec["analysis"].as_object_mut() {
            analysis.remove(field);
        }
        self
    }

    /// The object, for the workload of the same name.
    #[must_use]
    pub fn manifest(&self, namespace: &str, name: &str, host: &str) -> Value {
        let mut spec = self.spec.clone();
        let kind = spec["targetRef"]["kind"].as_str().unwrap_or("Deployment").to_owned();
        spec["targetRef"] = json!({"apiVersion": "apps/v1", "kind": kind, "name": name});
        if spec["provider"] != "kubernetes" {
            spec["service"]["hosts"] = json!([host]);
        }
        json!({
            "apiVersion": "serin.dev/v1beta1",
            "kind": "Canary",
            "metadata": {"name": name, "namespace": namespace},
            "spec": spec,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scenario_changes_what_it_names_and_nothing_else() {
        let canary = Canary::default().interval(1).steps(&[10, 30]).on_inconclusive("Hold", 3).revert_on_deletion();
        let manifest = canary.manifest("space", "app", "app.demo");
        let analysis = &manifest["spec"]["analysis"];
        assert_eq!(analysis["interval"], "1s");
        assert_eq!(analysis["stepWeights"], json!([10, 30]));
        assert_eq!((&analysis["stepWeight"], &analysis["maxWeight"]), (&Value::Null, &Value::Null));
        assert_eq!((&analysis["onInconclusive"], &analysis["inconclusiveLimit"]), (&json!("Hold"), &json!(3)));
        assert_eq!(analysis["metrics"].as_array().map(Vec::len), Some(2));
        assert_eq!(manifest["spec"]["revertOnDeletion"], true);
        assert_eq!(
            manifest["spec"]["targetRef"],
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "app"})
        );
        let other = Canary::default().target("DaemonSet").manifest("space", "app", "app.demo");
        assert_eq!(other["spec"]["targetRef"]["kind"], "DaemonSet");
        assert_eq!(manifest["spec"]["service"]["hosts"], json!(["app.demo"]));
    }
}
