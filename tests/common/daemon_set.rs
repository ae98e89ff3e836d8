//! The app as a DaemonSet.

use super::app::{self, NAME};
use super::cluster::Cluster;
use serde_json::Value;
use serin_testing::{CANARIES, DAEMON_SETS, HTTP_ROUTES, SERVICES};

/// A Canary whose target is a DaemonSet.
pub(crate) fn canary() -> Value {
    let mut canary = app::canary();
    canary["spec"]["targetRef"]["kind"] = "DaemonSet".into();
    canary
}

/// A cluster with a DaemonSet, its Service and its route.
pub(crate) async fn with_daemon_set() -> Cluster {
    let cluster = Cluster::new().await;
    // The API server counts templates in an annotation, whatever anybody writes there.
    cluster.server.add_defaults(DAEMON_SETS, |daemon_set| {
        daemon_set["metadata"]["annotations"]["deprecated.daemonset.template.generation"] = "1".into();
    });
    cluster.put(DAEMON_SETS, app::daemon_set("web:1"));
    cluster.put(SERVICES, app::service());
    cluster.put(HTTP_ROUTES, app::route());
    cluster.react();
    cluster
}

/// The same, with its Canary at rest.
pub(crate) async fn at_rest() -> Cluster {
    let mut cluster = with_daemon_set().await;
    cluster.put(CANARIES, canary());
    cluster.settle().await;
    cluster.forget();
    cluster
}

/// Deploys a version.
pub(crate) fn deploy(cluster: &Cluster, image: &str) {
    cluster.edit(DAEMON_SETS, NAME, |daemon_set| {
        daemon_set["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
    });
}
