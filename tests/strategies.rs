//! What each strategy writes, in order: the real reconciler against an API server in this process.

mod common;

use common::app::{self, NAME};
use common::cluster::Cluster;
use common::prometheus::Says;
use serde_json::{Value, json};
use serin_testing::{CANARIES, DEPLOYMENTS, Fault, HTTP_ROUTES, Request, SERVICES};
use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The Canary with another analysis: an interval and one metric, and what the strategy says.
fn canary(strategy: &Value) -> Value {
    let mut canary = app::canary();
    let analysis = &mut canary["spec"]["analysis"];
    if let Some(analysis) = analysis.as_object_mut() {
        analysis.remove("stepWeights");
    }
    for (field, value) in strategy.as_object().into_iter().flatten() {
        analysis[field] = value.clone();
    }
    canary
}

/// The same without a route: the provider `kubernetes`.
fn switched(strategy: &Value) -> Value {
    let mut canary = canary(strategy);
    canary["spec"]["provider"] = "kubernetes".into();
    canary["spec"]["service"] = json!({"port": 80, "targetPort": 8080});
    canary
}

fn insiders() -> Value {
    json!({"iterations": 3, "match": [{"headers": {"x-user": {"exact": "insider"}}}]})
}

/// A cluster with the app and its Canary at rest.
async fn at_rest(canary: Value) -> Cluster {
    let mut cluster = Cluster::with_app().await;
    cluster.put(CANARIES, canary);
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized", "{}", cluster.status());
    cluster.forget();
    cluster
}

/// Where the app's requests go: one line for each rule that is about it.
fn rules(cluster: &Cluster) -> String {
    let route = cluster.get(HTTP_ROUTES, NAME);
    let ours = |backend: &Value| backend["name"].as_str().is_some_and(|name| name.starts_with(NAME));
    let told = |rule: &Value| {
        let backends = rule["backendRefs"].as_array()?;
        let sends = backends
            .iter()
            .filter(|backend| ours(backend))
            .map(|backend| format!("{} {}", backend["name"].as_str().unwrap_or_default(), backend["weight"]));
        let sends: Vec<_> = sends.collect();
        let compared = rule["matches"][0]["headers"].as_array();
        let compared: Vec<_> =
            compared.into_iter().flatten().map(|header| header["value"].as_str().unwrap_or_default()).collect();
        let copies =
            rule["filters"].as_array().into_iter().flatten().filter(|filter| filter["type"] == "RequestMirror");
        let copies: Vec<_> = copies.map(|filter| format!(" +{}%", filter["requestMirror"]["percent"])).collect();
        let whom = if compared.is_empty() { "all".to_owned() } else { compared.join(" ") };
        (!sends.is_empty()).then(|| format!("{whom}: {}{}", sends.join(", "), copies.concat()))
    };
    let rules: Vec<_> = route["spec"]["rules"].as_array().into_iter().flatten().filter_map(told).collect();
    rules.join("; ")
}

fn selector(cluster: &Cluster) -> String {
    cluster.get(SERVICES, NAME)["spec"]["selector"].to_string()
}

/// Everything that `look` saw until nothing moves, each as long as it lasted.
async fn seen(cluster: &mut Cluster, look: impl Fn(&Cluster) -> String) -> Vec<String> {
    let seen = RefCell::new(Vec::<String>::new());
    cluster
        .settle_until(|cluster| {
            let now = format!("{} {}", cluster.phase(), look(cluster));
            let mut seen = seen.borrow_mut();
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            false
        })
        .await;
    seen.into_inner()
}

// ---- A/B ----

#[tokio::test(start_paused = true)]
async fn an_ab_test_sends_those_who_match_to_the_canary() {
    let mut cluster = at_rest(canary(&insiders())).await;
    let before = cluster.get(HTTP_ROUTES, NAME);
    cluster.deploy("web:2");
    let seen = seen(&mut cluster, rules).await;
    insta::assert_yaml_snapshot!(seen, @r#"
    - "Initialized all: web-primary 100, web-canary 0"
    - "Progressing all: web-primary 100, web-canary 0"
    - "Progressing insider: web-canary 100, web-primary 0; all: web-primary 100, web-canary 0"
    - "Promoting insider: web-canary 100, web-primary 0; all: web-primary 100, web-canary 0"
    - "Finalising all: web-primary 100, web-canary 0"
    - "Succeeded all: web-primary 100, web-canary 0"
    "#);
    assert_eq!(cluster.image("web-primary"), "web:2");
    assert_eq!(cluster.get(HTTP_ROUTES, NAME)["spec"], before["spec"], "nothing of the test is left");
    assert_eq!(cluster.get(HTTP_ROUTES, NAME)["metadata"]["annotations"], before["metadata"]["annotations"]);
}

#[tokio::test(start_paused = true)]
async fn a_bad_version_in_an_ab_test_is_taken_back_and_nothing_is_left_of_the_test() {
    let mut cluster = at_rest(canary(&insiders())).await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| rules(cluster).contains("web-canary 100")).await);
    cluster.prometheus.says(Says::Value(50.0));
    let seen = seen(&mut cluster, rules).await;
    insta::assert_yaml_snapshot!(seen, @r#"
    - "Progressing insider: web-canary 100, web-primary 0; all: web-primary 100, web-canary 0"
    - "Failed all: web-primary 100, web-canary 0"
    "#);
    assert_eq!(cluster.image("web-primary"), "web:1");
}

#[tokio::test(start_paused = true)]
async fn another_match_in_the_middle_of_a_test_moves_the_rules() {
    let mut cluster = at_rest(canary(&insiders())).await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| rules(cluster).contains("web-canary 100")).await);
    cluster.edit_spec(|spec| spec["analysis"]["match"][0]["headers"]["x-user"] = json!({"prefix": "in."}));
    cluster.pass().await.expect("the route is written");
    assert_eq!(rules(&cluster), r"^in\..*$: web-canary 100, web-primary 0; all: web-primary 100, web-canary 0");
    cluster.edit_spec(|spec| {
        let analysis = spec["analysis"].as_object_mut();
        analysis.map(|analysis| analysis.remove("match"));
    });
    cluster.pass().await.expect("the route is written");
    assert!(!rules(&cluster).contains("in"), "{}", rules(&cluster));
}

// ---- blue/green, copies ----

#[tokio::test(start_paused = true)]
async fn a_blue_green_checks_with_copies_and_then_moves_everything_at_once() {
    let mut cluster = Cluster::with_app().await;
    cluster.put(CANARIES, canary(&json!({"iterations": 3, "mirror": true, "mirrorWeight": 25})));
    cluster.settle().await;
    assert!(cluster.condition("Stalled").contains("Traefik does not copy requests"), "{}", cluster.status());
    cluster.restart();
    cluster.set(|settings| settings.gateway_metrics = "application".to_owned());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Initialized", "{}", cluster.status());
    cluster.deploy("web:2");
    let seen = seen(&mut cluster, rules).await;
    insta::assert_yaml_snapshot!(seen, @r#"
    - "Initialized all: web-primary 100, web-canary 0"
    - "Progressing all: web-primary 100, web-canary 0"
    - "Progressing all: web-primary 100, web-canary 0 +25%"
    - "Progressing all: web-primary 0, web-canary 100"
    - "Promoting all: web-primary 0, web-canary 100"
    - "Finalising all: web-primary 100, web-canary 0"
    - "Succeeded all: web-primary 100, web-canary 0"
    "#);
    assert_eq!(cluster.image("web-primary"), "web:2");
}

// ---- session affinity ----

#[tokio::test(start_paused = true)]
async fn clients_stay_where_they_are_while_the_weight_rises() {
    let affinity = json!({"cookieName": "web-version", "primaryCookieName": "web-stable"});
    let mut cluster = at_rest(canary(&json!({"stepWeights": [30, 60], "sessionAffinity": affinity}))).await;
    cluster.deploy("web:2");
    let seen = seen(&mut cluster, rules).await;
    insta::assert_yaml_snapshot!(seen, @r#"
    - "Initialized ^(.*;\\s*)?web-version=.*(\\s*;.*)?$: web-canary 0, web-primary 100; all: web-primary 100, web-canary 0"
    - "Progressing ^(.*;\\s*)?web-version=.*(\\s*;.*)?$: web-canary 0, web-primary 100; all: web-primary 100, web-canary 0"
    - "Progressing ^(.*;\\s*)?web-version=6ebea71b19(\\s*;.*)?$: web-canary 100, web-primary 0; ^(.*;\\s*)?web-stable=34004e8f4c(\\s*;.*)?$: web-canary 0, web-primary 100; all: web-canary 30, web-primary 70; all: web-primary 100, web-canary 0"
    - "Progressing ^(.*;\\s*)?web-version=6ebea71b19(\\s*;.*)?$: web-canary 100, web-primary 0; ^(.*;\\s*)?web-stable=34004e8f4c(\\s*;.*)?$: web-canary 0, web-primary 100; all: web-canary 60, web-primary 40; all: web-primary 100, web-canary 0"
    - "Promoting ^(.*;\\s*)?web-version=6ebea71b19(\\s*;.*)?$: web-canary 100, web-primary 0; ^(.*;\\s*)?web-stable=34004e8f4c(\\s*;.*)?$: web-canary 0, web-primary 100; all: web-canary 60, web-primary 40; all: web-primary 100, web-canary 0"
    - "Finalising ^(.*;\\s*)?web-version=.*(\\s*;.*)?$: web-canary 0, web-primary 100; all: web-primary 100, web-canary 0"
    - "Succeeded ^(.*;\\s*)?web-version=.*(\\s*;.*)?$: web-canary 0, web-primary 100; all: web-primary 100, web-canary 0"
    "#);
}

// ---- the route that Serin makes ----

#[tokio::test(start_paused = true)]
async fn the_route_says_all_that_the_service_says() {
    let mut cluster = Cluster::new().await;
    cluster.set(|settings| settings.gateway_metrics = "application".to_owned());
    cluster.put(DEPLOYMENTS, app::deployment("web:1"));
    let mut canary = app::canary();
    let backend = json!({"name": "tap", "namespace": "audit", "port": 80});
    canary["spec"]["service"] = json!({
        "port": 80,
        "targetPort": 8080,
        "gatewayRefs": [{"name": "gateway"}],
        "hosts": ["shop.example"],
        "timeout": "15s",
        "backendTimeout": "5s",
        "match": [{
            "uri": {"prefix": "/shop"},
            "method": {"exact": "GET"},
            "headers": {"x-a": {"suffix": ".b"}, "x-c": {"regex": "d|e"}},
            "queryParams": {"f": {"exact": "g"}},
        }],
        "rewrite": {"uri": "/", "authority": "shop.internal", "type": "ReplacePrefixMatch"},
        "headers": {"request": {"set": {"x-team": "blue"}}, "response": {"remove": ["server"]}},
        "mirror": [{"backendRef": backend}],
        "corsPolicy": {"allowOrigins": [{"exact": "https://a.example"}], "maxAge": "1h", "allowCredentials": true},
        "apex": {"labels": {"tier": "front"}, "annotations": {"owner": "shop"}},
    });
    cluster.put(CANARIES, canary);
    cluster.settle().await;
    let route = cluster.get(HTTP_ROUTES, NAME);
    insta::assert_yaml_snapshot!(route["spec"], @r#"
    hostnames:
      - shop.example
    parentRefs:
      - name: gateway
    rules:
      - backendRefs:
          - name: web-primary
            port: 80
            weight: 100
          - name: web-canary
            port: 80
            weight: 0
        filters:
          - cors:
              allowCredentials: true
              allowOrigins:
                - "https://a.example"
              maxAge: 3600
            type: CORS
          - type: URLRewrite
            urlRewrite:
              hostname: shop.internal
              path:
                replacePrefixMatch: /
                type: ReplacePrefixMatch
          - requestHeaderModifier:
              set:
                - name: x-team
                  value: blue
            type: RequestHeaderModifier
          - responseHeaderModifier:
              remove:
                - server
            type: ResponseHeaderModifier
          - requestMirror:
              backendRef:
                name: tap
                namespace: audit
                port: 80
            type: RequestMirror
        matches:
          - headers:
              - name: x-a
                type: RegularExpression
                value: "^.*\\.b$"
              - name: x-c
                type: RegularExpression
                value: "^(?:d|e)$"
            method: GET
            path:
              type: PathPrefix
              value: /shop
            queryParams:
              - name: f
                type: Exact
                value: g
        timeouts:
          backendRequest: 5s
          request: 15s
    "#);
    assert_eq!(route["metadata"]["labels"]["tier"], "front");
    assert_eq!(route["metadata"]["annotations"]["owner"], "shop");
    assert_eq!(cluster.get(SERVICES, NAME)["metadata"]["labels"]["tier"], "front");
    assert_eq!(cluster.errors.len(), 0);
}

// ---- without a route ----

#[tokio::test(start_paused = true)]
async fn without_a_route_the_service_moves_to_the_canary_and_back() {
    let mut cluster = at_rest(switched(&json!({"iterations": 3, "switchTraffic": true}))).await;
    let route = cluster.get(HTTP_ROUTES, NAME);
    cluster.deploy("web:2");
    let seen = seen(&mut cluster, selector).await;
    insta::assert_yaml_snapshot!(seen, @r#"
    - "Initialized {\"app\":\"web-primary\"}"
    - "Progressing {\"app\":\"web-primary\"}"
    - "Progressing {\"app\":\"web\"}"
    - "Promoting {\"app\":\"web\"}"
    - "Finalising {\"app\":\"web-primary\"}"
    - "Succeeded {\"app\":\"web-primary\"}"
    "#);
    insta::assert_snapshot!(cluster.story(), @r#"
    +0s
      create controllerrevisions/web-6ebea71b19: web:2, owned by Canary
      update canaries/status/web: Progressing weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 0, iteration 0 of 3: the canary is not ready: 0 of 0 pods available, 0 updated
      patch deployments/web: replace /spec/replicas 3
      event Normal NewRevision: revision 6ebea71b19 is being started
    +0s
      update canaries/status/web: Progressing weight 100 step 1 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 100, iteration 0 of 3: the next check is at 00:00:15Z
      patch services/web: add /metadata/annotations/serin.dev~1leads-to-canary "true", replace /spec/selector/app "web"
    +10s
      update canaries/status/web: Progressing weight 100 step 1 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 100, iteration 1 of 3: the next check is at 00:00:25Z
    +20s
      update canaries/status/web: Progressing weight 100 step 1 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Progressing: weight 100, iteration 2 of 3: the next check is at 00:00:35Z
    +30s
      update canaries/status/web: Promoting weight 100 step 1 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Reconciling | Promoting: the primary is being given the analysed version: the primary is being made or updated
      patch deployments/web-primary: replace /metadata/annotations/serin.dev~1revision "6ebea71b19", replace /spec/template/spec/containers/0/image "web:2"
      event Normal Promoting: the primary is given revision 6ebea71b19: every check passed at the last step
    +30s
      update canaries/status/web: Finalising weight 0 step 0 pods Up of 3, 6ebea71b19 -> - | Reconciling | Finalising: all traffic is going to the primary: the gateway does not report the new weights yet
      patch services/web: remove /metadata/annotations/serin.dev~1leads-to-canary, replace /spec/selector/app "web-primary"
    +30s
      update canaries/status/web: Succeeded weight 0 step 0 pods Draining of 3, 6ebea71b19 -> - | Ready | Promoted | Succeeded: revision 6ebea71b19 serves
      event Normal Succeeded: revision 6ebea71b19 is promoted
    +35s
      patch deployments/web: replace /spec/replicas 0
    +35s
      update canaries/status/web: Succeeded weight 0 step 0 pods Down of 3, 6ebea71b19 -> - | Ready | Promoted | Succeeded: revision 6ebea71b19 serves
    "#);
    assert_eq!(cluster.image("web-primary"), "web:2");
    assert_eq!(cluster.get(HTTP_ROUTES, NAME), route, "what lies there is none of its business");
    assert_eq!(cluster.replicas(NAME), 0);
}

#[tokio::test(start_paused = true)]
async fn without_a_route_a_bad_version_is_taken_back_by_one_write() {
    let mut cluster = at_rest(switched(&json!({"iterations": 3, "switchTraffic": true}))).await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| selector(cluster) == r#"{"app":"web"}"#).await);
    cluster.story();
    cluster.prometheus.says(Says::Value(50.0));
    cluster.settle().await;
    insta::assert_snapshot!(cluster.story(), @r#"
    +10s
      update canaries/status/web: Failed weight 0 step 0 pods Up of 3, 34004e8f4c -> 6ebea71b19 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: request-success-rate is 50, below the minimum 99 (failed check 1 of 1); change the pod template to roll out a fix or try again
      patch services/web: remove /metadata/annotations/serin.dev~1leads-to-canary, replace /spec/selector/app "web-primary"
      event Warning RolledBack: all traffic goes to the primary: request-success-rate is 50, below the minimum 99 (failed check 1 of 1)
    +10s
      update canaries/status/web: Failed weight 0 step 0 pods Draining of 3, 34004e8f4c -> 6ebea71b19 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: request-success-rate is 50, below the minimum 99 (failed check 1 of 1); change the pod template to roll out a fix or try again
    +15s
      patch deployments/web: replace /spec/replicas 0
    +15s
      update canaries/status/web: Failed weight 0 step 0 pods Down of 3, 34004e8f4c -> 6ebea71b19 | Stalled | RolledBack: revision 34004e8f4c serves; the new version was taken back: request-success-rate is 50, below the minimum 99 (failed check 1 of 1); change the pod template to roll out a fix or try again
    "#);
    assert_eq!(cluster.phase(), "Failed");
}

#[tokio::test(start_paused = true)]
async fn without_a_route_and_without_a_switch_clients_stay_on_the_primary() {
    let mut cluster = at_rest(switched(&json!({"iterations": 3}))).await;
    cluster.deploy("web:2");
    let seen = seen(&mut cluster, selector).await;
    insta::assert_yaml_snapshot!(seen, @r#"
    - "Initialized {\"app\":\"web-primary\"}"
    - "Progressing {\"app\":\"web-primary\"}"
    - "Promoting {\"app\":\"web-primary\"}"
    - "Finalising {\"app\":\"web-primary\"}"
    - "Succeeded {\"app\":\"web-primary\"}"
    "#);
    assert_eq!(cluster.image("web-primary"), "web:2");
}

#[tokio::test(start_paused = true)]
async fn the_service_comes_back_when_its_target_is_deleted_under_it() {
    let mut cluster = at_rest(switched(&json!({"iterations": 3, "switchTraffic": true}))).await;
    cluster.deploy("web:2");
    assert!(cluster.settle_until(|cluster| selector(cluster) == r#"{"app":"web"}"#).await);
    cluster.server.delete(DEPLOYMENTS, app::NAMESPACE, NAME).expect("the target is there");
    cluster.pass().await.expect("nothing is in the way");
    assert_eq!(cluster.phase(), "Failed");
    assert_eq!(selector(&cluster), r#"{"app":"web-primary"}"#);
}

#[tokio::test(start_paused = true)]
async fn without_a_route_the_app_is_handed_back_as_it_was() {
    let mut cluster = Cluster::with_app().await;
    let before = cluster.get(SERVICES, NAME);
    cluster.put(CANARIES, switched(&json!({"iterations": 3, "switchTraffic": true})));
    cluster.settle().await;
    cluster.delete_canary();
    cluster.settle().await;
    let after = cluster.get(SERVICES, NAME);
    assert_eq!(
        (&after["spec"], &after["metadata"]["annotations"]),
        (&before["spec"], &before["metadata"]["annotations"])
    );
    assert_eq!(cluster.find(CANARIES, NAME), None);
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_goes_is_not_kept_by_what_its_provider_cannot_do() {
    for (field, value) in [("mirror", json!(true)), ("switchTraffic", json!(true))] {
        let mut cluster = at_rest(canary(&json!({"iterations": 3}))).await;
        cluster.edit_spec(|spec| spec["analysis"][field] = value.clone());
        cluster.settle().await;
        assert!(cluster.condition("Stalled").starts_with("True"), "{field}");
        cluster.delete_canary();
        cluster.settle().await;
        assert_eq!(cluster.find(CANARIES, NAME), None, "{field}");
        assert_eq!(selector(&cluster), app::service()["spec"]["selector"].to_string());
    }
}

// ---- crashes ----

/// A good rollout after which the Canary is deleted; the process dies around the n-th write. Answers what is left in
/// route and Service, and how many writes there were.
async fn with_a_crash(canary: Value, n: usize, before: bool) -> (Vec<Value>, usize) {
    let mut cluster = at_rest(canary).await;
    let dead = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&dead);
    let mut writes = 0;
    cluster.server.set_faults(move |request: &Request| {
        if flag.load(Ordering::SeqCst) {
            return Fault::DropBefore;
        }
        writes += usize::from(request.is_write());
        if writes != n || !request.is_write() {
            return Fault::Pass;
        }
        flag.store(true, Ordering::SeqCst);
        if before { Fault::DropBefore } else { Fault::DropAfter }
    });
    let acts: [fn(&Cluster); 2] = [|cluster| cluster.deploy("web:2"), Cluster::delete_canary];
    for act in acts {
        act(&cluster);
        loop {
            let is_dead = Arc::clone(&dead);
            assert!(cluster.settle_until(|_| is_dead.load(Ordering::SeqCst)).await, "{:?}", cluster.errors);
            if !dead.load(Ordering::SeqCst) {
                break;
            }
            cluster.server.clear_faults();
            dead.store(false, Ordering::SeqCst);
            cluster.restart();
        }
        if cluster.find(CANARIES, NAME).is_some() {
            assert_eq!(cluster.image("web-primary"), "web:2");
        }
    }
    let left = [HTTP_ROUTES, SERVICES].map(|kind| {
        let object = cluster.get(kind, NAME);
        json!([object["spec"], object["metadata"]["annotations"]])
    });
    (left.into(), cluster.server.writes().len())
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_write_leaves_nothing_of_a_strategy() {
    let affinity = json!({"stepWeights": [30], "sessionAffinity": {"cookieName": "web-version"}});
    let found = [(HTTP_ROUTES, app::route()), (SERVICES, app::service())];
    let before: Vec<_> = found.map(|(_, object)| json!([object["spec"], object["metadata"]["annotations"]])).into();
    let switch = json!({"iterations": 1, "switchTraffic": true});
    for canary in [canary(&insiders()), canary(&affinity), switched(&switch)] {
        let (_, writes) = with_a_crash(canary.clone(), usize::MAX, true).await;
        for n in 1..=writes {
            // Both kinds of crash at every write are in `crash.rs`; here each write has one of them.
            let (left, _) = with_a_crash(canary.clone(), n, n % 2 == 0).await;
            assert_eq!(left, before, "at write {n} of {writes}");
        }
    }
}
