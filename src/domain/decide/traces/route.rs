//! The gateway does not do as it is told.

use super::cluster::{Cluster, Gateway};
use insta::assert_snapshot;

fn rollout(gateway: Gateway) -> Cluster {
    let mut cluster = Cluster::at_weight(20);
    cluster.gateway = gateway;
    cluster
}

#[test]
fn a_refused_route_holds_the_weight_until_the_deadline() {
    let mut cluster = rollout(Gateway::Refuses);
    cluster.until(|state| state.candidate().is_some() && state.weight().canary() == 0);
    cluster.passes(2);
    cluster.note("it is accepted again");
    cluster.gateway = Gateway::Accepts;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  RouteRefused
    10s Progressing     20 Up       a  ..
    19s Progressing     20 Up       a  RouteRefused
    20s Progressing     20 Up       a  ..
    29s Progressing     20 Up       a  RouteRefused
    30s Progressing     20 Up       a  ..
    39s Progressing     20 Up       a  RouteRefused
    40s Progressing     20 Up       a  ..
    49s Progressing     20 Up       a  RouteRefused
    50s Progressing     20 Up       a  ..
    59s Progressing     20 Up       a  RouteRefused
    60s Progressing     20 Up       a  ..
    69s Failed           0 Up       a  RoutePending    RolledBack
    70s Failed           0 Up       a  RouteRefused
    71s Failed           0 Up       a  RouteRefused
        -- it is accepted again --
    72s Failed           0 Draining a  -
    73s Failed           0 Draining a  -
    77s Failed           0 Draining a  -
    78s Failed           0 Down     a  -
    79s Failed           0 Down     a  -
    ");
}

#[test]
fn a_gateway_that_lags_is_waited_for() {
    let mut cluster = rollout(Gateway::Lags);
    cluster.passes(3);
    cluster.note("it has caught up");
    cluster.gateway = Gateway::Accepts;
    cluster.until(|state| state.weight().canary() == 50);
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  RoutePending
    10s Progressing     20 Up       a  ..
        -- it has caught up --
    19s Progressing     50 Up       a  Dwell           Advanced
    ");
}

#[test]
fn a_gateway_that_never_says_anything_is_believed_after_the_grace_period() {
    let mut cluster = Cluster::at_rest();
    cluster.gateway = Gateway::Silent;
    cluster.deploy("b");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  RoutePending
     5s Progressing     20 Up       a  Dwell           Advanced
     6s Progressing     20 Up       a  ..
    15s Progressing     50 Up       a  Dwell           Advanced
    16s Progressing     50 Up       a  ..
    25s Promoting       50 Up       b  PrimaryNotReady Promoting
    26s Promoting       50 Up       b  PrimaryNotReady
    27s Promoting       50 Up       b  PrimaryNotReady
    28s Finalising       0 Up       b  RoutePending    Finalising
    29s Finalising       0 Up       b  RoutePending
    33s Succeeded        0 Draining b  -               Succeeded
    34s Succeeded        0 Draining b  -
    38s Succeeded        0 Draining b  -
    39s Succeeded        0 Down     b  -
    40s Succeeded        0 Down     b  -
    ");
}

#[test]
fn a_route_that_cannot_be_split_gets_no_canary() {
    let mut cluster = Cluster::at_rest();
    cluster.gateway = Gateway::Unusable;
    cluster.deploy("b");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  RouteUnusable
    60s Failed           0 Up       a  RoutePending    RolledBack
    61s Failed           0 Up       a  RouteUnusable
    ");
}

#[test]
fn a_route_that_cannot_be_split_is_not_touched_in_the_beginning() {
    let mut cluster = Cluster::new();
    cluster.gateway = Gateway::Unusable;
    cluster.settle();
    cluster.note("it is corrected");
    cluster.gateway = Gateway::Accepts;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Initializing     0 Up       a  PrimaryNotReady
     1s Initializing     0 Up       a  RouteUnusable
     2s Initializing     0 Up       a  RouteUnusable
     3s Initializing     0 Up       a  RouteUnusable
        -- it is corrected --
     4s Initialized      0 Up       a  RoutePending    Initialized
     5s Initialized      0 Draining a  -
     6s Initialized      0 Draining a  -
    10s Initialized      0 Draining a  -
    11s Initialized      0 Down     a  -
    12s Initialized      0 Down     a  -
    ");
}
