//! Everything goes well.

use super::cluster::Cluster;
use crate::domain::{State, Verdict};
use insta::assert_snapshot;

#[test]
fn the_first_version_becomes_the_primary_and_the_targets_pods_go() {
    let mut cluster = Cluster::new();
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Initializing     0 Up       a  PrimaryNotReady
     1s Initializing     0 Up       a  PrimaryNotReady
     2s Initializing     0 Up       a  PrimaryNotReady
     3s Initialized      0 Up       a  RoutePending    Initialized
     4s Initialized      0 Draining a  -
     5s Initialized      0 Draining a  -
     9s Initialized      0 Draining a  -
    10s Initialized      0 Down     a  -
    11s Initialized      0 Down     a  -
    ");
}

#[test]
fn a_good_version_takes_every_step_and_is_promoted() {
    let mut cluster = Cluster::at_rest();
    cluster.deploy("b");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing     20 Up       a  Dwell           Advanced
     4s Progressing     20 Up       a  ..
    13s Progressing     50 Up       a  Dwell           Advanced
    14s Progressing     50 Up       a  ..
    23s Promoting       50 Up       b  PrimaryNotReady Promoting
    24s Promoting       50 Up       b  PrimaryNotReady
    25s Promoting       50 Up       b  PrimaryNotReady
    26s Finalising       0 Up       b  RoutePending    Finalising
    27s Succeeded        0 Draining b  -               Succeeded
    28s Succeeded        0 Draining b  -
    32s Succeeded        0 Draining b  -
    33s Succeeded        0 Down     b  -
    34s Succeeded        0 Down     b  -
    ");
}

#[test]
fn skip_analysis_promotes_as_soon_as_the_pods_are_ready() {
    let mut cluster = Cluster::at_rest();
    cluster.plan.skip_analysis = true;
    cluster.deploy("b");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Promoting        0 Up       b  PrimaryNotReady Promoting
     4s Promoting        0 Up       b  PrimaryNotReady
     5s Promoting        0 Up       b  PrimaryNotReady
     6s Finalising       0 Up       b  RoutePending    Finalising
     7s Succeeded        0 Draining b  -               Succeeded
     8s Succeeded        0 Draining b  -
    12s Succeeded        0 Draining b  -
    13s Succeeded        0 Down     b  -
    14s Succeeded        0 Down     b  -
    ");
}

#[test]
fn an_upgrade_of_the_hashing_starts_no_rollout() {
    let mut cluster = Cluster::at_rest();
    cluster.hashing = "2";
    cluster.settle();
    cluster.note("and the next version is seen");
    cluster.deploy("b");
    cluster.passes(1);
    assert_snapshot!(cluster.log(), @r"
    0s Initialized      0 Down     a  -
    1s Initialized      0 Down     a  -
       -- and the next version is seen --
       -- the target is b --
    2s Progressing      0 Up       a  CanaryNotReady  NewRevision
    ");
    let State { target, promoted, .. } = &cluster.state;
    assert_eq!(target.as_ref().unwrap().revision.0, "b2");
    assert_eq!(promoted.as_ref().unwrap().0, "a");
}

#[test]
fn pods_that_a_user_asks_for_at_rest_are_pods_of_the_primary() {
    let mut cluster = Cluster::at_rest();
    cluster.target.as_mut().unwrap().change("a", 5);
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
    0s Initialized      0 Down     a  -
    1s Initialized      0 Down     a  -
    2s Initialized      0 Down     a  -
    3s Initialized      0 Down     a  -
    ");
    assert_eq!(
        (cluster.state.replicas, cluster.primary.unwrap().replicas, cluster.target.unwrap().replicas),
        (5, 5, 0)
    );
}

#[test]
fn a_primary_that_is_left_over_keeps_its_version_and_the_target_is_analysed() {
    let mut cluster = Cluster::at_rest();
    cluster.deploy("b");
    cluster.state = Cluster::new().state;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Initializing     0 Up       a  PrimaryNotReady
     1s Initialized      0 Up       a  RoutePending    Initialized
     2s Progressing      0 Up       a  CanaryNotReady  NewRevision
     3s Progressing      0 Up       a  CanaryNotReady
     4s Progressing     20 Up       a  Dwell           Advanced
     5s Progressing     20 Up       a  ..
    14s Progressing     50 Up       a  Dwell           Advanced
    15s Progressing     50 Up       a  ..
    24s Promoting       50 Up       b  PrimaryNotReady Promoting
    25s Promoting       50 Up       b  PrimaryNotReady
    26s Promoting       50 Up       b  PrimaryNotReady
    27s Finalising       0 Up       b  RoutePending    Finalising
    28s Succeeded        0 Draining b  -               Succeeded
    29s Succeeded        0 Draining b  -
    33s Succeeded        0 Draining b  -
    34s Succeeded        0 Down     b  -
    35s Succeeded        0 Down     b  -
    ");
}

#[test]
fn the_same_answers_give_the_same_rollout() {
    let run = || {
        let mut cluster = Cluster::at_rest();
        cluster.answer([Verdict::Pass, Verdict::Inconclusive, Verdict::Fail]);
        cluster.deploy("b");
        cluster.settle();
        cluster.log()
    };
    assert_eq!(run(), run());
}
