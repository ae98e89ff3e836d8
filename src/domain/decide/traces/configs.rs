//! What a version uses besides its pod template changes, or is not there.

use super::cluster::Cluster;
use crate::domain::{CanaryPods, Phase, Verdict, Weight};
use insta::assert_snapshot;

/// At rest with `a` and config `1` as the primary.
fn at_rest() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.config = "1";
    cluster.settle();
    cluster.restart();
    cluster
}

#[test]
fn a_changed_config_is_a_new_version() {
    let mut cluster = at_rest();
    cluster.configure("2");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the config is 2 --
     0s Progressing      0 Up       a1 CanaryNotReady  NewRevision
     1s Progressing      0 Up       a1 CanaryNotReady
     2s Progressing      0 Up       a1 CanaryNotReady
     3s Progressing     20 Up       a1 Dwell           Advanced
     4s Progressing     20 Up       a1 ..
    13s Progressing     50 Up       a1 Dwell           Advanced
    14s Progressing     50 Up       a1 ..
    23s Promoting       50 Up       a2 PrimaryNotReady Promoting
    24s Promoting       50 Up       a2 PrimaryNotReady
    25s Promoting       50 Up       a2 PrimaryNotReady
    26s Finalising       0 Up       a2 RoutePending    Finalising
    27s Succeeded        0 Draining a2 -               Succeeded
    28s Succeeded        0 Draining a2 -
    32s Succeeded        0 Draining a2 -
    33s Succeeded        0 Down     a2 -
    34s Succeeded        0 Down     a2 -
    ");
}

#[test]
fn a_changed_config_in_the_middle_of_an_analysis_starts_the_pods_anew() {
    let mut cluster = at_rest();
    cluster.deploy("b");
    cluster.until(|state| state.weight().canary() == 20);
    cluster.restart();
    cluster.configure("2");
    cluster.passes(1);
    assert_eq!(cluster.target.as_ref().unwrap().began, "1", "nobody else replaces them");
    cluster.until(|state| state.weight() > Weight::ZERO);
    assert_eq!(cluster.target.as_ref().unwrap().began, "2");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the config is 2 --
     0s Progressing      0 Stale    a1 CanaryNotReady  Superseded NewRevision
     1s Progressing      0 Draining a1 CanaryNotReady
     2s Progressing      0 Draining a1 CanaryNotReady
     6s Progressing      0 Draining a1 CanaryNotReady
     7s Progressing      0 Up       a1 CanaryNotReady
     8s Progressing      0 Up       a1 CanaryNotReady
     9s Progressing      0 Up       a1 CanaryNotReady
    10s Progressing     20 Up       a1 Dwell           Advanced
    11s Progressing     20 Up       a1 ..
    20s Progressing     50 Up       a1 Dwell           Advanced
    21s Progressing     50 Up       a1 ..
    30s Promoting       50 Up       b2 PrimaryNotReady Promoting
    31s Promoting       50 Up       b2 PrimaryNotReady
    32s Promoting       50 Up       b2 PrimaryNotReady
    33s Finalising       0 Up       b2 RoutePending    Finalising
    34s Succeeded        0 Draining b2 -               Succeeded
    35s Succeeded        0 Draining b2 -
    39s Succeeded        0 Draining b2 -
    40s Succeeded        0 Down     b2 -
    41s Succeeded        0 Down     b2 -
    ");
}

#[test]
fn back_to_the_promoted_config_needs_no_analysis() {
    let mut cluster = at_rest();
    cluster.configure("2");
    cluster.until(|state| state.weight().canary() == 20);
    cluster.restart();
    cluster.configure("1");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
       -- the config is 1 --
    0s Succeeded        0 Up       a1 RoutePending    Restored
    1s Succeeded        0 Draining a1 -
    2s Succeeded        0 Draining a1 -
    6s Succeeded        0 Draining a1 -
    7s Succeeded        0 Down     a1 -
    8s Succeeded        0 Down     a1 -
    ");
}

#[test]
fn a_bad_config_is_taken_back_and_another_one_analysed() {
    let mut cluster = at_rest();
    cluster.answer([Verdict::Fail]);
    cluster.configure("2");
    cluster.settle();
    assert!(matches!(cluster.state.phase, Phase::Failed { .. }), "{}", cluster.log());
    assert_eq!(cluster.state.primary_revision().unwrap().0, "a1");
    cluster.configure("3");
    cluster.settle();
    assert_eq!(cluster.state.promoted.as_ref().unwrap().0, "a3");
}

#[test]
fn a_config_that_goes_and_comes_back_as_it_was_holds_the_analysis() {
    let mut cluster = at_rest();
    cluster.deploy("b");
    cluster.until(|state| state.weight().canary() == 20);
    cluster.restart();
    cluster.note("the config is deleted");
    cluster.incomplete = true;
    cluster.passes(4);
    cluster.note("it is back");
    cluster.incomplete = false;
    cluster.until(|state| matches!(state.phase, Phase::Promoting(_)));
    assert_snapshot!(cluster.log(), @r"
        -- the config is deleted --
     0s Progressing     20 Up       a1 ..
     9s Progressing     20 Up       a1 TargetIncomplete
    10s Progressing     20 Up       a1 ..
    19s Progressing     20 Up       a1 TargetIncomplete
        -- it is back --
    20s Progressing     20 Up       a1 ..
    29s Progressing     50 Up       a1 Dwell           Advanced
    30s Progressing     50 Up       a1 ..
    39s Promoting       50 Up       b1 PrimaryNotReady Promoting
    ");
}

#[test]
fn a_bad_version_is_taken_back_even_if_its_config_is_gone() {
    let mut cluster = at_rest();
    cluster.deploy("b");
    cluster.until(|state| state.weight().canary() == 20);
    cluster.incomplete = true;
    cluster.answer([Verdict::Fail]);
    cluster.until(|state| matches!(state.phase, Phase::Failed { .. }));
    assert_eq!(cluster.state.weight(), Weight::ZERO);
}

#[test]
fn a_template_that_needs_what_is_not_there_loses_its_traffic_and_waits() {
    let mut cluster = at_rest();
    cluster.deploy("b");
    cluster.until(|state| state.weight().canary() == 20);
    cluster.restart();
    cluster.incomplete = true;
    cluster.deploy("c");
    cluster.passes(3);
    cluster.note("the config is there");
    cluster.incomplete = false;
    cluster.until(|state| state.weight() > Weight::ZERO);
    assert_snapshot!(cluster.log(), @r"
        -- the target is c --
     0s Progressing      0 Up       a1 TargetIncomplete Retreated
     1s Progressing      0 Up       a1 TargetIncomplete
     2s Progressing      0 Up       a1 TargetIncomplete
        -- the config is there --
    60s Progressing      0 Up       a1 CanaryNotReady  Superseded NewRevision
    61s Progressing     20 Up       a1 Dwell           Advanced
    ");
    assert_eq!(cluster.state.target.unwrap().revision.0, "c1");
}

#[test]
fn what_is_not_there_is_waited_for_at_rest() {
    let mut cluster = at_rest();
    cluster.incomplete = true;
    cluster.deploy("b");
    cluster.settle();
    cluster.note("the config is there");
    cluster.incomplete = false;
    cluster.passes(2);
    assert_snapshot!(cluster.log(), @r"
       -- the target is b --
    0s Initialized      0 Down     a1 TargetIncomplete
    1s Initialized      0 Down     a1 TargetIncomplete
       -- the config is there --
    2s Progressing      0 Up       a1 CanaryNotReady  NewRevision
    3s Progressing      0 Up       a1 CanaryNotReady
    ");
}

#[test]
fn nothing_is_chosen_before_everything_is_there() {
    let mut cluster = Cluster::new();
    cluster.config = "1";
    cluster.incomplete = true;
    cluster.settle();
    assert_eq!(cluster.state.target, None);
    cluster.incomplete = false;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Initializing     0 Up       -  TargetIncomplete
     1s Initializing     0 Up       a1 PrimaryNotReady
     2s Initializing     0 Up       a1 PrimaryNotReady
     3s Initializing     0 Up       a1 PrimaryNotReady
     4s Initialized      0 Up       a1 RoutePending    Initialized
     5s Initialized      0 Draining a1 -
     6s Initialized      0 Draining a1 -
    10s Initialized      0 Draining a1 -
    11s Initialized      0 Down     a1 -
    12s Initialized      0 Down     a1 -
    ");
}

/// A release that follows configs replaces one that did not, and hashes in another way too.
#[test]
fn an_upgrade_starts_no_rollout() {
    let mut cluster = Cluster::at_rest();
    cluster.hashing = "'";
    cluster.config = "1";
    cluster.settle();
    assert!(matches!(cluster.state.phase, Phase::Initialized { .. }), "{}", cluster.log());
    cluster.restart();
    cluster.hashing = "";
    cluster.settle();
    cluster.configure("2");
    cluster.passes(1);
    assert!(matches!(cluster.state.phase, Phase::Progressing(_)), "from then on it is followed: {}", cluster.log());
}

#[test]
fn an_upgrade_in_the_middle_of_an_analysis_goes_on_with_it() {
    let mut cluster = Cluster::at_weight(20);
    cluster.config = "1";
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_eq!(cluster.state.promoted.as_ref().unwrap().0, "b");
    cluster.settle();
    assert_eq!(cluster.state.canary, CanaryPods::Down);
    assert!(matches!(cluster.state.phase, Phase::Succeeded { .. }), "{}", cluster.log());
}
