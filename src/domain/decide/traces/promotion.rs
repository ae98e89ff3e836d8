//! The primary gets the analysed version.

use super::cluster::Cluster;
use crate::domain::Phase;
use insta::assert_snapshot;

fn promoting() -> Cluster {
    let mut cluster = Cluster::at_weight(50);
    cluster.until(|state| matches!(state.phase, Phase::Promoting(_)));
    cluster.restart();
    cluster
}

#[test]
fn a_primary_that_does_not_become_ready_gets_the_version_before() {
    let mut cluster = promoting();
    cluster.unpromotable.push("b");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Promoting       50 Up       b  PrimaryNotReady
     1s Promoting       50 Up       b  PrimaryNotReady
    59s Promoting back  50 Up       a  -               PromotionFailed
    60s Promoting back  50 Up       a  PrimaryNotReady
    61s Promoting back  50 Up       a  PrimaryNotReady
    62s Failed           0 Up       a  RoutePending    RolledBack
    63s Failed           0 Draining a  -
    64s Failed           0 Draining a  -
    68s Failed           0 Draining a  -
    69s Failed           0 Down     a  -
    70s Failed           0 Down     a  -
    ");
}

#[test]
fn a_target_that_changes_loses_its_traffic_and_is_analysed_next() {
    let mut cluster = promoting();
    cluster.deploy("c");
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_eq!(cluster.state.promoted.as_ref().unwrap().0, "b");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the target is c --
     0s Promoting        0 Up       b  PrimaryNotReady Retreated
     1s Promoting        0 Up       b  PrimaryNotReady
     2s Finalising       0 Up       b  RoutePending    Finalising
     3s Succeeded        0 Draining b  -               Succeeded
     4s Progressing      0 Up       b  CanaryNotReady  NewRevision
     5s Progressing     20 Up       b  Dwell           Advanced
     6s Progressing     20 Up       b  ..
    15s Progressing     50 Up       b  Dwell           Advanced
    16s Progressing     50 Up       b  ..
    25s Promoting       50 Up       c  PrimaryNotReady Promoting
    26s Promoting       50 Up       c  PrimaryNotReady
    27s Promoting       50 Up       c  PrimaryNotReady
    28s Finalising       0 Up       c  RoutePending    Finalising
    29s Succeeded        0 Draining c  -               Succeeded
    30s Succeeded        0 Draining c  -
    34s Succeeded        0 Draining c  -
    35s Succeeded        0 Down     c  -
    36s Succeeded        0 Down     c  -
    ");
}

#[test]
fn pods_that_are_lost_lose_their_traffic() {
    let mut cluster = promoting();
    cluster.target.as_mut().unwrap().missing = 2;
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_snapshot!(cluster.log(), @r"
    0s Promoting        0 Up       b  PrimaryNotReady Retreated
    1s Promoting        0 Up       b  PrimaryNotReady
    2s Finalising       0 Up       b  RoutePending    Finalising
    3s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn a_target_that_is_deleted_loses_its_traffic() {
    let mut cluster = promoting();
    cluster.target = None;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
    0s Promoting        0 Up       b  TargetMissing
    1s Promoting        0 Up       b  TargetMissing
    2s Promoting        0 Up       b  TargetMissing
    ");
}

#[test]
fn suspend_holds_it() {
    let mut cluster = promoting();
    cluster.plan.suspend = true;
    cluster.settle();
    cluster.note("suspend is false again");
    cluster.plan.suspend = false;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Promoting       50 Up       b  Suspended
     1s Promoting       50 Up       b  Suspended
     2s Promoting       50 Up       b  Suspended
        -- suspend is false again --
     3s Finalising       0 Up       b  RoutePending    Finalising
     4s Succeeded        0 Draining b  -               Succeeded
     5s Succeeded        0 Draining b  -
     9s Succeeded        0 Draining b  -
    10s Succeeded        0 Down     b  -
    11s Succeeded        0 Down     b  -
    ");
}
