//! The user changes his mind.

use super::cluster::{Cluster, steps};
use crate::domain::{Phase, Verdict};
use insta::assert_snapshot;

#[test]
fn a_new_version_in_the_middle_of_an_analysis_is_analysed_from_the_start() {
    let mut cluster = Cluster::at_weight(50);
    cluster.passes(1);
    cluster.deploy("c");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     50 Up       a  ..
        -- the target is c --
     9s Progressing      0 Up       a  CanaryNotReady  Superseded NewRevision
    10s Progressing      0 Up       a  CanaryNotReady
    11s Progressing     20 Up       a  Dwell           Advanced
    12s Progressing     20 Up       a  ..
    21s Progressing     50 Up       a  Dwell           Advanced
    22s Progressing     50 Up       a  ..
    31s Promoting       50 Up       c  PrimaryNotReady Promoting
    32s Promoting       50 Up       c  PrimaryNotReady
    33s Promoting       50 Up       c  PrimaryNotReady
    34s Finalising       0 Up       c  RoutePending    Finalising
    35s Succeeded        0 Draining c  -               Succeeded
    36s Succeeded        0 Draining c  -
    40s Succeeded        0 Draining c  -
    41s Succeeded        0 Down     c  -
    42s Succeeded        0 Down     c  -
    ");
}

#[test]
fn back_to_the_promoted_version_in_the_middle_of_an_analysis() {
    let mut cluster = Cluster::at_weight(50);
    cluster.deploy("a");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
       -- the target is a --
    0s Succeeded        0 Up       a  RoutePending    Restored
    1s Succeeded        0 Draining a  -
    2s Succeeded        0 Draining a  -
    6s Succeeded        0 Draining a  -
    7s Succeeded        0 Down     a  -
    8s Succeeded        0 Down     a  -
    ");
}

#[test]
fn back_to_the_promoted_version_after_a_failure() {
    let mut cluster = Cluster::at_weight(20);
    cluster.answer([Verdict::Fail]);
    cluster.settle();
    cluster.deploy("a");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Failed           0 Up       a  RoutePending    RolledBack
    10s Failed           0 Draining a  -
    11s Failed           0 Draining a  -
    15s Failed           0 Draining a  -
    16s Failed           0 Down     a  -
    17s Failed           0 Down     a  -
        -- the target is a --
    18s Succeeded        0 Down     a  RoutePending    Restored
    19s Succeeded        0 Down     a  -
    ");
}

#[test]
fn a_fix_after_a_failure_is_analysed() {
    let mut cluster = Cluster::at_weight(20);
    cluster.answer([Verdict::Fail]);
    cluster.until(|state| matches!(state.phase, Phase::Failed { .. }));
    cluster.deploy("c");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Failed           0 Up       a  RoutePending    RolledBack
        -- the target is c --
    10s Progressing      0 Up       a  CanaryNotReady  NewRevision
    11s Progressing      0 Up       a  CanaryNotReady
    12s Progressing     20 Up       a  Dwell           Advanced
    13s Progressing     20 Up       a  ..
    22s Progressing     50 Up       a  Dwell           Advanced
    23s Progressing     50 Up       a  ..
    32s Promoting       50 Up       c  PrimaryNotReady Promoting
    33s Promoting       50 Up       c  PrimaryNotReady
    34s Promoting       50 Up       c  PrimaryNotReady
    35s Finalising       0 Up       c  RoutePending    Finalising
    36s Succeeded        0 Draining c  -               Succeeded
    37s Succeeded        0 Draining c  -
    41s Succeeded        0 Draining c  -
    42s Succeeded        0 Down     c  -
    43s Succeeded        0 Down     c  -
    ");
}

#[test]
fn steps_that_change_are_taken_up_at_the_next_one_above() {
    let mut cluster = Cluster::at_weight(20);
    cluster.plan.steps = steps(&[10, 30, 60]);
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     30 Up       a  Dwell           Advanced
    10s Progressing     30 Up       a  ..
    19s Progressing     60 Up       a  Dwell           Advanced
    20s Progressing     60 Up       a  ..
    29s Promoting       60 Up       b  PrimaryNotReady Promoting
    30s Promoting       60 Up       b  PrimaryNotReady
    31s Promoting       60 Up       b  PrimaryNotReady
    32s Finalising       0 Up       b  RoutePending    Finalising
    33s Succeeded        0 Draining b  -               Succeeded
    34s Succeeded        0 Draining b  -
    38s Succeeded        0 Draining b  -
    39s Succeeded        0 Down     b  -
    40s Succeeded        0 Down     b  -
    ");
}

#[test]
fn a_lower_maximum_lowers_the_weight_at_once() {
    let mut cluster = Cluster::at_weight(50);
    cluster.plan.steps = steps(&[10, 30]);
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     30 Up       a  Dwell           Advanced
     1s Progressing     30 Up       a  ..
    10s Promoting       30 Up       b  PrimaryNotReady Promoting
    11s Promoting       30 Up       b  PrimaryNotReady
    12s Promoting       30 Up       b  PrimaryNotReady
    13s Finalising       0 Up       b  RoutePending    Finalising
    14s Succeeded        0 Draining b  -               Succeeded
    15s Succeeded        0 Draining b  -
    19s Succeeded        0 Draining b  -
    20s Succeeded        0 Down     b  -
    21s Succeeded        0 Down     b  -
    ");
}

#[test]
fn suspend_holds_the_weight() {
    let mut cluster = Cluster::at_weight(20);
    cluster.plan.suspend = true;
    cluster.settle();
    cluster.note("suspend is false again");
    cluster.plan.suspend = false;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  Suspended
        -- suspend is false again --
     1s Progressing     20 Up       a  ..
     9s Progressing     50 Up       a  Dwell           Advanced
    10s Progressing     50 Up       a  ..
    19s Promoting       50 Up       b  PrimaryNotReady Promoting
    20s Promoting       50 Up       b  PrimaryNotReady
    21s Promoting       50 Up       b  PrimaryNotReady
    22s Finalising       0 Up       b  RoutePending    Finalising
    23s Succeeded        0 Draining b  -               Succeeded
    24s Succeeded        0 Draining b  -
    28s Succeeded        0 Draining b  -
    29s Succeeded        0 Down     b  -
    30s Succeeded        0 Down     b  -
    ");
}

#[test]
fn a_target_that_is_deleted_loses_its_traffic() {
    let mut cluster = Cluster::at_weight(20);
    cluster.target = None;
    cluster.settle();
    cluster.note("it is back as it was");
    cluster.deploy("b");
    cluster.target.as_mut().unwrap().generation = 7;
    cluster.settle();
    cluster.note("it is away");
    cluster.target = None;
    cluster.settle();
    cluster.note("a fix comes");
    cluster.deploy("c");
    cluster.passes(1);
    assert_snapshot!(cluster.log(), @r"
     0s Failed           0 Up       a  RoutePending    RolledBack
     1s Failed           0 Up       a  TargetMissing
        -- it is back as it was --
        -- the target is b --
     2s Failed           0 Draining a  -
     3s Failed           0 Draining a  -
     4s Failed           0 Draining a  -
     7s Failed           0 Draining a  -
     8s Failed           0 Down     a  -
     9s Failed           0 Down     a  -
        -- it is away --
    10s Failed           0 Down     a  TargetMissing
        -- a fix comes --
        -- the target is c --
    11s Progressing      0 Up       a  CanaryNotReady  NewRevision
    ");
}
