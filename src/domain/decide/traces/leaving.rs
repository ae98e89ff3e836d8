//! The Canary is deleted.

use super::cluster::{Cluster, gone};
use crate::domain::{Phase, State, Verdict};
use insta::assert_snapshot;

/// A cluster whose Canary is deleted in the first pass after `state` is as wanted.
fn deleted_when(wanted: impl Fn(&State) -> bool, answers: &[Verdict]) -> Cluster {
    let mut cluster = Cluster::new();
    if !wanted(&cluster.state) {
        cluster.until(|state| matches!(state.phase, Phase::Initialized { .. }));
    }
    if !wanted(&cluster.state) {
        cluster.settle();
        cluster.deploy("b");
        cluster.answer(answers.iter().copied());
        cluster.until(wanted);
    }
    cluster.deleted = true;
    cluster.restart();
    cluster
}

fn farewell(mut cluster: Cluster) -> String {
    cluster.until(gone);
    cluster.log()
}

#[test]
fn before_anything_was_touched_it_goes_at_once() {
    let cluster = deleted_when(|state| matches!(state.phase, Phase::Initializing { .. }), &[]);
    assert_snapshot!(farewell(cluster), @"   0s Released         0 Up       -  -               Terminating");
}

#[test]
fn the_target_gets_its_traffic_back_when_it_runs_the_promoted_version() {
    let cluster = deleted_when(|state| matches!(state.phase, Phase::Initialized { .. }), &[]);
    assert_snapshot!(farewell(cluster), @r"
    0s Reviving         0 Up       a  -               Terminating
    1s HandingOver      0 Up       a  RoutePending
    2s Draining         0 Up       a  -
    3s Draining         0 Up       a  -
    7s Released         0 Up       a  -
    ");
    let mut cluster = Cluster::at_rest();
    cluster.deleted = true;
    assert_snapshot!(farewell(cluster), @r"
    0s Reviving         0 Up       a  -               Terminating
    1s Reviving         0 Up       a  CanaryNotReady
    2s Reviving         0 Up       a  CanaryNotReady
    3s HandingOver      0 Up       a  RoutePending
    4s Draining         0 Up       a  -
    5s Draining         0 Up       a  -
    9s Released         0 Up       a  -
    ");
    let cluster = deleted_when(|state| matches!(state.phase, Phase::Finalising { .. }), &[]);
    assert_snapshot!(farewell(cluster), @r"
    0s Reviving         0 Up       b  -               Terminating
    1s HandingOver      0 Up       b  RoutePending
    2s Draining         0 Up       b  -
    3s Draining         0 Up       b  -
    7s Released         0 Up       b  -
    ");
    let cluster = deleted_when(|state| matches!(state.phase, Phase::Succeeded { .. }), &[]);
    assert_snapshot!(farewell(cluster), @r"
    0s Reviving         0 Up       b  -               Terminating
    1s HandingOver      0 Up       b  RoutePending
    2s Draining         0 Up       b  -
    3s Draining         0 Up       b  -
    7s Released         0 Up       b  -
    ");
}

#[test]
fn the_primary_stays_when_the_target_holds_what_was_not_promoted() {
    let cluster = deleted_when(|state| state.weight().canary() == 50, &[]);
    assert_snapshot!(farewell(cluster), @"   0s Kept             0 Up       a  -               PrimaryKept");
    let cluster = deleted_when(|state| matches!(state.phase, Phase::Promoting(_)), &[]);
    assert_snapshot!(farewell(cluster), @"   0s Kept             0 Up       a  -               PrimaryKept");
    let cluster = deleted_when(|state| matches!(state.phase, Phase::Failed { .. }), &[Verdict::Fail]);
    assert_snapshot!(farewell(cluster), @"   0s Kept             0 Up       a  -               PrimaryKept");
}

#[test]
fn the_primary_stays_when_the_targets_pods_do_not_start() {
    let mut cluster = Cluster::at_rest();
    cluster.deleted = true;
    cluster.broken.push("a");
    assert_snapshot!(farewell(cluster), @r"
     0s Reviving         0 Up       a  -               Terminating
     1s Reviving         0 Up       a  CanaryNotReady
     2s Reviving         0 Up       a  CanaryNotReady
    60s Kept             0 Up       a  -               PrimaryKept
    ");
}

#[test]
fn a_target_that_changes_while_its_pods_start_is_not_trusted() {
    let mut cluster = Cluster::at_rest();
    cluster.deleted = true;
    cluster.passes(2);
    cluster.deploy("b");
    assert_snapshot!(farewell(cluster), @r"
    0s Reviving         0 Up       a  -               Terminating
    1s Reviving         0 Up       a  CanaryNotReady
       -- the target is b --
    2s Kept             0 Up       a  -               PrimaryKept
    ");
}

#[test]
fn without_a_target_there_is_nothing_to_hand_back() {
    let mut cluster = Cluster::at_rest();
    cluster.deleted = true;
    cluster.target = None;
    assert_snapshot!(farewell(cluster), @r"
    0s Reviving         0 Up       a  -               Terminating
    1s Released         0 Up       a  -
    ");
}
