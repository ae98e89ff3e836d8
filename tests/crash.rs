//! The process dies at any write, before it or after it, and another takes its place: the end is the same (S7).
//!
//! Every object that the API server stores on the way is looked at: weights add up (S1), are in the status before they
//! are in the route (S7), follow the plan step by step (S5), and go only to versions that have pods (S2).

mod common;

use common::app::{self, NAME, STEPS};
use common::cluster::Cluster;
use common::configs;
use common::inbox::{Does, Inbox};
use common::prometheus::Says;
use common::scalers;
use common::service::{lead_to, service_at_rest, service_canary, with_service};
use serde_json::{Value, json};
use serin_testing::{
    AUTOSCALERS, CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, DEPLOYMENTS, ENDPOINTS, Fault, GroupVersionResource,
    HTTP_ROUTES, Request, SCALED_OBJECTS, SECRETS, SERVICES,
};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// More writes than any of the scenarios makes.
const MANY: usize = 100;

/// Seconds after which the next process begins when it is not there at once: more than an interval, less than a deadline.
const LONG_ENOUGH: u64 = 25;

/// Which of the two versions has to be what at the end is said by the undisturbed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    Initialise,
    InitialiseFromNothing,
    Good,
    Bad,
    Superseded,
    Deleted,
    DeletedWithRevert,
    DeletedUnpromoted,
    InitialiseWithConfigs,
    Configs,
    ConfigsSuperseded,
    ConfigsDeletedUnpromoted,
    InitialiseWithHpa,
    Hpa,
    InitialiseWithKeda,
    Keda,
    KedaDeleted,
    KedaDeletedUnpromoted,
    InitialiseService,
    Service,
    ServiceBad,
    ServiceSuperseded,
    ServiceDeleted,
    Gated,
    Ordered,
}

/// When the process dies.
#[derive(Clone, Copy, Debug)]
enum Crash {
    Never,
    Before(usize),
    After(usize),
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_initialising_changes_nothing() {
    check(Scenario::Initialise).await;
    check(Scenario::InitialiseFromNothing).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_good_rollout_changes_nothing() {
    check(Scenario::Good).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_bad_rollout_changes_nothing() {
    check(Scenario::Bad).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_around_a_newer_version_changes_nothing() {
    check(Scenario::Superseded).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_deletion_changes_nothing() {
    check(Scenario::Deleted).await;
    check(Scenario::DeletedWithRevert).await;
    check(Scenario::DeletedUnpromoted).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_configs_are_rolled_out_changes_nothing() {
    check(Scenario::InitialiseWithConfigs).await;
    check(Scenario::Configs).await;
    check(Scenario::ConfigsSuperseded).await;
    check(Scenario::ConfigsDeletedUnpromoted).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_an_autoscaler_is_held_changes_nothing() {
    check(Scenario::InitialiseWithHpa).await;
    check(Scenario::Hpa).await;
    check(Scenario::InitialiseWithKeda).await;
    check(Scenario::Keda).await;
    check(Scenario::KedaDeleted).await;
    check(Scenario::KedaDeletedUnpromoted).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_a_service_is_rolled_out_changes_nothing() {
    check(Scenario::InitialiseService).await;
    check(Scenario::Service).await;
    check(Scenario::ServiceBad).await;
    check(Scenario::ServiceSuperseded).await;
    check(Scenario::ServiceDeleted).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_in_a_rollout_with_webhooks_changes_nothing() {
    check(Scenario::Gated).await;
}

#[tokio::test(start_paused = true)]
async fn a_crash_around_an_order_changes_nothing() {
    check(Scenario::Ordered).await;
}

#[tokio::test(start_paused = true)]
async fn the_watch_of_the_writes_finds_what_is_wrong() {
    let watch = Watch::default();
    watch.saw(Stored::Committed(10));
    watch.saw(Stored::Available(NAME.into(), 3));
    watch.saw(Stored::Available("web-primary".into(), 3));
    watch.saw(Stored::Routed(90, 10));
    assert_eq!(watch.faults(), Vec::<String>::new());
    watch.saw(Stored::Routed(70, 30));
    watch.saw(Stored::Committed(60));
    watch.saw(Stored::Routed(40, 50));
    watch.saw(Stored::Routed(40, 60));
    watch.saw(Stored::Available(NAME.into(), 0));
    watch.saw(Stored::Routed(40, 60));
    insta::assert_snapshot!(watch.faults().join("\n"), @r#"
    S7: 30 was applied, but 10 is on record
    S1: 40 and 50 are not a hundred
    S7: 50 was applied, but 60 is on record
    S5: 50 does not follow 30
    S2: no pods are left for a weight of 60
    "#);
}

/// Runs a scenario once for every write and both kinds of crash.
async fn check(scenario: Scenario) {
    let (expected, writes) = run(scenario, Crash::Never).await;
    assert!(writes.len() < MANY, "{scenario:?}: {} writes", writes.len());
    for n in 1..=writes.len() {
        for crash in [Crash::Before(n), Crash::After(n)] {
            let (end, _) = run(scenario, crash).await;
            assert_eq!(end, expected, "{scenario:?}, {crash:?}: {}", writes[n - 1]);
        }
    }
    println!("{scenario:?}: {} writes, {} crashes", writes.len(), 2 * writes.len());
}

/// A scenario from its beginning to its end; answers how things are then, and the writes of the process.
async fn run(scenario: Scenario, crash: Crash) -> (Value, Vec<String>) {
    let mut cluster = begin(scenario).await;
    let of_service = [
        Scenario::InitialiseService,
        Scenario::Service,
        Scenario::ServiceBad,
        Scenario::ServiceSuperseded,
        Scenario::ServiceDeleted,
    ];
    let watch = Watch::over(
        &cluster,
        if of_service.contains(&scenario) { (ENDPOINTS, answering) } else { (DEPLOYMENTS, available) },
    );
    let dead = die_at(&cluster, crash);
    let user: &[fn(&Cluster)] = match scenario {
        Scenario::Initialise | Scenario::InitialiseFromNothing | Scenario::InitialiseWithConfigs => {
            &[|cluster| drop(cluster.put(CANARIES, app::canary()))]
        }
        Scenario::InitialiseWithHpa => {
            &[|cluster| drop(cluster.put(CANARIES, scalers::canary("HorizontalPodAutoscaler")))]
        }
        Scenario::InitialiseWithKeda => &[|cluster| drop(cluster.put(CANARIES, scalers::canary("ScaledObject")))],
        // The canary grows and the primary shrinks, so that the promotion has to raise it.
        Scenario::Hpa => &[|cluster| cluster.deploy("web:2"), |cluster| scalers::autoscale(cluster, 5, 2)],
        Scenario::Good | Scenario::Bad | Scenario::Keda | Scenario::Gated => &[|cluster| cluster.deploy("web:2")],
        Scenario::Ordered => &[|cluster| cluster.deploy("web:2"), |cluster| order(cluster, "abort")],
        Scenario::Superseded => &[|cluster| cluster.deploy("web:2"), |cluster| cluster.deploy("web:3")],
        Scenario::InitialiseService => &[|cluster| drop(cluster.put(CANARIES, service_canary()))],
        Scenario::Service | Scenario::ServiceBad => &[|cluster| lead_to(cluster, "v2")],
        Scenario::ServiceSuperseded => &[|cluster| lead_to(cluster, "v2"), |cluster| lead_to(cluster, "v4")],
        Scenario::Configs => &[|cluster| paint(cluster, "green")],
        Scenario::ConfigsSuperseded => &[|cluster| paint(cluster, "green"), |cluster| paint(cluster, "red")],
        Scenario::Deleted
        | Scenario::DeletedWithRevert
        | Scenario::DeletedUnpromoted
        | Scenario::ConfigsDeletedUnpromoted
        | Scenario::KedaDeleted
        | Scenario::KedaDeletedUnpromoted
        | Scenario::ServiceDeleted => &[Cluster::delete_canary],
    };
    for (place, act) in user.iter().enumerate() {
        act(&cluster);
        let last = place + 1 == user.len();
        let reached = |cluster: &Cluster| {
            !last && cluster.find(CANARIES, NAME).is_some_and(|canary| canary["status"]["canaryWeight"] == 30)
        };
        while !settle(&mut cluster, &dead, reached).await {
            cluster.server.clear_faults();
            dead.store(false, Ordering::SeqCst);
            if let Crash::After(_) = crash {
                cluster.wait(LONG_ENOUGH).await;
            }
            cluster.restart();
        }
    }
    cluster.server.collect_garbage();
    let faults = watch.faults();
    assert!(faults.is_empty(), "{scenario:?}, {crash:?}:\n{}\n{}", faults.join("\n"), cluster.story());
    let writes = cluster.server.writes().iter().map(common::story::line).collect();
    (end(&cluster), writes)
}

/// Whether it came to rest, or where it should, without a crash.
async fn settle(cluster: &mut Cluster, dead: &Arc<AtomicBool>, reached: impl Fn(&Cluster) -> bool) -> bool {
    let is_dead = Arc::clone(dead);
    let ended = cluster.settle_until(|cluster| is_dead.load(Ordering::SeqCst) || reached(cluster)).await;
    assert!(ended, "nothing comes to rest:\n{}\n{:?}", cluster.story(), cluster.errors);
    !dead.load(Ordering::SeqCst)
}

async fn begin(scenario: Scenario) -> Cluster {
    let mut cluster = match scenario {
        Scenario::Initialise => Cluster::with_app().await,
        Scenario::InitialiseFromNothing => {
            let cluster = Cluster::new().await;
            cluster.put(DEPLOYMENTS, app::deployment("web:1"));
            cluster
        }
        Scenario::InitialiseWithConfigs => configs::with_configs().await,
        Scenario::Configs | Scenario::ConfigsSuperseded | Scenario::ConfigsDeletedUnpromoted => {
            configs::at_rest().await
        }
        Scenario::InitialiseWithHpa => scalers::with_hpa().await,
        Scenario::InitialiseWithKeda => scalers::with_scaled_object().await,
        Scenario::Hpa => scalers::at_rest("HorizontalPodAutoscaler").await,
        Scenario::Keda | Scenario::KedaDeleted | Scenario::KedaDeletedUnpromoted => {
            scalers::at_rest("ScaledObject").await
        }
        Scenario::InitialiseService => with_service().await,
        Scenario::Service | Scenario::ServiceBad | Scenario::ServiceSuperseded | Scenario::ServiceDeleted => {
            service_at_rest().await
        }
        Scenario::Good | Scenario::Superseded | Scenario::Bad | Scenario::Ordered => Cluster::at_rest().await,
        Scenario::Gated => gated().await,
        Scenario::Deleted | Scenario::DeletedWithRevert | Scenario::DeletedUnpromoted => {
            let mut cluster = Cluster::new().await;
            cluster.put(DEPLOYMENTS, app::deployment("web:1"));
            cluster.put(CANARIES, app::canary());
            if matches!(scenario, Scenario::DeletedWithRevert) {
                cluster.edit_spec(|spec| spec["revertOnDeletion"] = true.into());
            }
            cluster.settle().await;
            cluster
        }
    };
    match scenario {
        Scenario::Bad | Scenario::ServiceBad => cluster.prometheus.says(Says::Value(50.0)),
        Scenario::DeletedUnpromoted | Scenario::KedaDeletedUnpromoted => {
            cluster.prometheus.says(Says::Value(50.0));
            cluster.deploy("web:2");
            cluster.settle().await;
        }
        Scenario::ConfigsDeletedUnpromoted => {
            cluster.prometheus.says(Says::Value(50.0));
            paint(&cluster, "red");
            cluster.settle().await;
        }
        _ => {}
    }
    cluster.forget();
    cluster
}

/// A cluster at rest whose rollouts ask webhooks of every kind.
async fn gated() -> Cluster {
    let inbox = Inbox::start(Does::Answer(200)).await;
    inbox.at("/rollback", Does::Answer(403));
    let kinds = ["confirm-rollout", "pre-rollout", "rollout", "confirm-promotion", "rollback", "post-rollout"];
    let webhook = |kind| json!({"type": kind, "name": kind, "url": format!("{}/{kind}", inbox.address)});
    let mut cluster = Cluster::at_rest().await;
    cluster.edit_spec(|spec| spec["analysis"]["webhooks"] = kinds.map(webhook).into_iter().collect());
    cluster.settle().await;
    cluster
}

/// The user gives an order.
fn order(cluster: &Cluster, written: &str) {
    cluster.edit(CANARIES, NAME, |canary| canary["metadata"]["annotations"]["serin.dev/command"] = written.into());
}

/// The user changes a ConfigMap and a Secret.
fn paint(cluster: &Cluster, color: &str) {
    cluster.edit(CONFIG_MAPS, "settings", |settings| settings["data"]["color"] = color.into());
    cluster.edit(SECRETS, "token", |token| token["data"]["color"] = color.into());
}

/// From the chosen write on, nothing of this process reaches the server; the flag says that it is so.
fn die_at(cluster: &Cluster, crash: Crash) -> Arc<AtomicBool> {
    let dead = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dead);
    let mut writes = 0;
    cluster.server.set_faults(move |request: &Request| {
        if flag.load(Ordering::SeqCst) {
            return Fault::DropBefore;
        }
        writes += usize::from(request.is_write());
        let fault = match crash {
            Crash::Before(n) if n == writes && request.is_write() => Fault::DropBefore,
            Crash::After(n) if n == writes && request.is_write() => Fault::DropAfter,
            Crash::Never | Crash::Before(_) | Crash::After(_) => return Fault::Pass,
        };
        flag.store(true, Ordering::SeqCst);
        fault
    });
    dead
}

/// How things are, without what depends on when and how often they were written.
fn end(cluster: &Cluster) -> Value {
    let mut all = BTreeMap::new();
    let kinds = [
        AUTOSCALERS,
        SCALED_OBJECTS,
        CANARIES,
        CONFIG_MAPS,
        CONTROLLER_REVISIONS,
        DEPLOYMENTS,
        HTTP_ROUTES,
        SECRETS,
        SERVICES,
    ];
    for kind in kinds {
        for mut object in cluster.server.list(kind, None) {
            let name = format!("{}/{}", kind.plural, object["metadata"]["name"].as_str().unwrap_or_default());
            timeless(&mut object);
            all.insert(name, object);
        }
    }
    json!(all)
}

fn timeless(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|key, _| {
                let of_when = [
                    "resourceVersion",
                    "generation",
                    "observedGeneration",
                    "uid",
                    "creationTimestamp",
                    "lastTransitionTime",
                    "lastUpdateTime",
                    "since",
                    "drainingSince",
                    "time",
                    "url",
                ];
                !of_when.contains(&key.as_str())
            });
            map.values_mut().for_each(timeless);
        }
        Value::Array(list) => list.iter_mut().for_each(timeless),
        _ => {}
    }
}

/// Something that the API server is about to store.
#[derive(Clone, Debug, PartialEq)]
enum Stored {
    /// The weight in the Canary's status.
    Committed(i64),
    /// The weights of primary and canary in the route.
    Routed(i64, i64),
    /// The available pods of a Deployment.
    Available(String, i64),
}

/// What was stored, in order.
#[derive(Clone, Default)]
struct Watch(Arc<Mutex<Vec<Stored>>>);

impl Watch {
    /// Looks at everything that the server stores from now on; what is there now counts as stored. `pods` says where the
    /// pods of a version are counted.
    fn over(cluster: &Cluster, pods: (GroupVersionResource, fn(&Value) -> Option<Stored>)) -> Self {
        let watch = Self::default();
        for (kind, read) in [(CANARIES, committed as fn(&Value) -> Option<Stored>), pods, (HTTP_ROUTES, routed)] {
            cluster.server.list(kind, None).iter().filter_map(read).for_each(|stored| watch.saw(stored));
            let watch = watch.clone();
            cluster
                .server
                .add_defaults(kind, move |object| read(object).into_iter().for_each(|stored| watch.saw(stored)));
        }
        watch
    }

    fn saw(&self, stored: Stored) {
        self.0.lock().expect("no test panics in here").push(stored);
    }

    /// What was wrong with it.
    fn faults(&self) -> Vec<String> {
        let stored = self.0.lock().expect("no test panics in here");
        let mut faults = vec![];
        let mut committed = 0;
        let mut available: BTreeMap<&str, i64> = BTreeMap::new();
        let mut shown = 0;
        let mut routed = None;
        for stored in stored.iter() {
            match stored {
                Stored::Committed(weight) => committed = *weight,
                Stored::Available(name, pods) => {
                    available.insert(name, *pods);
                    if name == NAME && *pods == 0 && shown > 0 {
                        faults.push(format!("S2: no pods are left for a weight of {shown}"));
                    }
                }
                // Its gateway writes to the route too.
                Stored::Routed(_, canary) if routed == Some(stored) && *canary == shown => {}
                Stored::Routed(primary, canary) => {
                    routed = Some(stored);
                    if primary + canary != 100 {
                        faults.push(format!("S1: {primary} and {canary} are not a hundred"));
                    }
                    if *canary != committed {
                        faults.push(format!("S7: {canary} was applied, but {committed} is on record"));
                    }
                    if *canary > shown && next_step(shown) != Some(*canary) {
                        faults.push(format!("S5: {canary} does not follow {shown}"));
                    }
                    for (name, weight) in [("web-primary", *primary), (NAME, *canary)] {
                        if weight > 0 && available.get(name).is_none_or(|pods| *pods == 0) {
                            faults.push(format!("S2: {weight} percent go to {name}, which has no pods"));
                        }
                    }
                    shown = *canary;
                }
            }
        }
        faults
    }
}

fn next_step(weight: i64) -> Option<i64> {
    STEPS.into_iter().find(|step| *step > weight)
}

fn committed(canary: &Value) -> Option<Stored> {
    canary["status"]["canaryWeight"].as_i64().map(Stored::Committed)
}

fn available(deployment: &Value) -> Option<Stored> {
    let name = deployment["metadata"]["name"].as_str()?.to_owned();
    Some(Stored::Available(name, deployment["status"]["availableReplicas"].as_i64().unwrap_or_default()))
}

/// The ready addresses of one version's Service.
fn answering(endpoints: &Value) -> Option<Stored> {
    let name = match endpoints["metadata"]["name"].as_str()? {
        "web-canary" => NAME,
        "web-primary" => "web-primary",
        _ => return None,
    };
    let addresses = endpoints.pointer("/subsets/0/addresses").and_then(Value::as_array).map_or(0, Vec::len);
    Some(Stored::Available(name.to_owned(), i64::try_from(addresses).ok()?))
}

/// Nothing for a route that is not split.
fn routed(route: &Value) -> Option<Stored> {
    let backends = route.pointer("/spec/rules/0/backendRefs")?.as_array()?;
    let weight = |name: &str| backends.iter().find(|backend| backend["name"] == name)?["weight"].as_i64();
    Some(Stored::Routed(weight("web-primary")?, weight("web-canary")?))
}
