//! What is not steps alone: A/B tests, blue/green with and without a mesh, copies of requests, promotion in steps.

use super::cluster::{Cluster, Gateway, plan, steps, weight};
use crate::domain::{Phase, Plan, Steps, Verdict};
use insta::assert_snapshot;

fn deployed(plan: Plan) -> Cluster {
    let mut cluster = Cluster::at_rest();
    cluster.plan = plan;
    cluster.deploy("b");
    cluster
}

fn blue_green() -> Plan {
    Plan { steps: Steps::at_once(), checks_before: 2, mirror: weight(100), threshold: 2, ..plan() }
}

fn with_promotion_steps() -> Cluster {
    let mut cluster = deployed(Plan { steps: steps(&[50]), promotion_step: Some(weight(20)), ..plan() });
    cluster.until(|state| matches!(state.phase, Phase::Promoting(_)) && state.weight() == weight(30));
    cluster.restart();
    cluster
}

#[test]
fn an_ab_test_counts_checks_at_one_weight() {
    let mut cluster = deployed(Plan { steps: Steps::at_once(), checks_per_step: 3, ..plan() });
    cluster.answer([Verdict::Pass, Verdict::Inconclusive, Verdict::Pass, Verdict::Pass]);
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing    100 Up       a  Dwell           Advanced
     4s Progressing    100 Up       a  ..
    13s Progressing    100 Up       a  Dwell           CheckPassed
    14s Progressing    100 Up       a  ..
    23s Progressing    100 Up       a  Inconclusive    Inconclusive
    24s Progressing    100 Up       a  ..
    33s Progressing    100 Up       a  Dwell           CheckPassed
    34s Progressing    100 Up       a  ..
    43s Promoting      100 Up       b  PrimaryNotReady Promoting
    44s Promoting      100 Up       b  PrimaryNotReady
    45s Promoting      100 Up       b  PrimaryNotReady
    46s Finalising       0 Up       b  RoutePending    Finalising
    47s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn blue_green_is_checked_with_copies_before_all_traffic_goes_to_it() {
    let mut cluster = deployed(blue_green());
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  Dwell           Checking ~100
     4s Progressing      0 Up       a  ..               ~100
    13s Progressing      0 Up       a  Dwell           CheckPassed ~100
    14s Progressing      0 Up       a  ..               ~100
    23s Progressing    100 Up       a  Dwell           Advanced
    24s Progressing    100 Up       a  ..
    33s Promoting      100 Up       b  PrimaryNotReady Promoting
    34s Promoting      100 Up       b  PrimaryNotReady
    35s Promoting      100 Up       b  PrimaryNotReady
    36s Finalising       0 Up       b  RoutePending    Finalising
    37s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn a_bad_copy_never_gets_traffic() {
    let mut cluster = deployed(blue_green());
    cluster.answer([Verdict::Fail, Verdict::Inconclusive, Verdict::Pass, Verdict::Fail]);
    cluster.until(|state| matches!(state.phase, Phase::Failed { .. }));
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  Dwell           Checking ~100
     4s Progressing      0 Up       a  ..               ~100
    13s Progressing      0 Up       a  CheckFailed     CheckFailed ~100
    14s Progressing      0 Up       a  ..               ~100
    23s Progressing      0 Up       a  Inconclusive    Inconclusive ~100
    24s Progressing      0 Up       a  ..               ~100
    33s Progressing      0 Up       a  Dwell           CheckPassed ~100
    34s Progressing      0 Up       a  ..               ~100
    43s Failed           0 Up       a  RoutePending    RolledBack
    ");
}

#[test]
fn copies_stop_when_pods_are_lost_and_when_the_version_changes() {
    let mut cluster = deployed(blue_green());
    cluster.until(|state| matches!(&state.phase, Phase::Progressing(analysis) if analysis.passed == 1));
    cluster.note("a pod is lost");
    cluster.target.as_mut().unwrap().missing = 1;
    cluster.passes(2);
    cluster.note("it is back");
    cluster.target.as_mut().unwrap().missing = 0;
    cluster.passes(2);
    cluster.deploy("c");
    cluster.passes(4);
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  Dwell           Checking ~100
     4s Progressing      0 Up       a  ..               ~100
    13s Progressing      0 Up       a  Dwell           CheckPassed ~100
        -- a pod is lost --
    14s Progressing      0 Up       a  CanaryNotReady
    15s Progressing      0 Up       a  CanaryNotReady
        -- it is back --
    74s Progressing      0 Up       a  Dwell            ~100
    75s Progressing      0 Up       a  ..               ~100
        -- the target is c --
    84s Progressing      0 Up       a  CanaryNotReady  Superseded NewRevision
    85s Progressing      0 Up       a  CanaryNotReady
    86s Progressing      0 Up       a  Dwell           Checking ~100
    87s Progressing      0 Up       a  ..               ~100
    ");
}

#[test]
fn nothing_is_copied_while_suspended() {
    let mut cluster = deployed(blue_green());
    cluster.passes(6);
    cluster.plan.suspend = true;
    cluster.passes(2);
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  Dwell           Checking ~100
     4s Progressing      0 Up       a  ..               ~100
    13s Progressing      0 Up       a  Dwell           CheckPassed ~100
    14s Progressing      0 Up       a  Suspended
    15s Progressing      0 Up       a  Suspended
    ");
}

#[test]
fn without_a_mesh_blue_green_is_promoted_from_weight_0() {
    let mut cluster = deployed(Plan { steps: Steps::none(), checks_before: 2, ..plan() });
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  Dwell           Checking
     4s Progressing      0 Up       a  ..
    13s Progressing      0 Up       a  Dwell           CheckPassed
    14s Progressing      0 Up       a  ..
    23s Promoting        0 Up       b  PrimaryNotReady Promoting
    24s Promoting        0 Up       b  PrimaryNotReady
    25s Promoting        0 Up       b  PrimaryNotReady
    26s Finalising       0 Up       b  RoutePending    Finalising
    27s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn without_a_mesh_a_switch_is_taken_back_at_once() {
    let mut cluster = deployed(Plan { steps: Steps::at_once(), checks_per_step: 2, ..plan() });
    cluster.answer([Verdict::Pass, Verdict::Fail]);
    cluster.until(|state| matches!(state.phase, Phase::Failed { .. }));
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing    100 Up       a  Dwell           Advanced
     4s Progressing    100 Up       a  ..
    13s Progressing    100 Up       a  Dwell           CheckPassed
    14s Progressing    100 Up       a  ..
    23s Failed           0 Up       a  RoutePending    RolledBack
    ");
}

#[test]
fn a_plan_that_ends_at_0_from_now_on_takes_the_traffic_back_and_goes_on() {
    let mut cluster = Cluster::at_weight(20);
    cluster.plan = Plan { steps: Steps::none(), checks_before: 1, ..plan() };
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_snapshot!(cluster.log(), @r"
     0s Progressing      0 Up       a  Dwell           Advanced
     1s Progressing      0 Up       a  Dwell           Checking
     2s Progressing      0 Up       a  ..
    11s Promoting        0 Up       b  PrimaryNotReady Promoting
    12s Promoting        0 Up       b  PrimaryNotReady
    13s Promoting        0 Up       b  PrimaryNotReady
    14s Finalising       0 Up       b  RoutePending    Finalising
    15s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn the_primary_takes_over_in_steps() {
    let mut cluster = deployed(Plan { steps: steps(&[50]), promotion_step: Some(weight(20)), ..plan() });
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing     50 Up       a  Dwell           Advanced
     4s Progressing     50 Up       a  ..
    13s Promoting       50 Up       b  PrimaryNotReady Promoting
    14s Promoting       50 Up       b  PrimaryNotReady
    15s Promoting       50 Up       b  PrimaryNotReady
    16s Promoting       30 Up       b  Dwell           Shifted
    17s Promoting       30 Up       b  Dwell
    26s Promoting       10 Up       b  Dwell           Shifted
    27s Promoting       10 Up       b  Dwell
    36s Finalising       0 Up       b  RoutePending    Finalising
    37s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn a_primary_that_is_not_ready_takes_over_no_more() {
    let mut cluster = with_promotion_steps();
    cluster.primary.as_mut().unwrap().missing = 1;
    cluster.passes(4);
    cluster.note("it is ready again");
    cluster.primary.as_mut().unwrap().missing = 0;
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_snapshot!(cluster.log(), @r"
     0s Promoting       30 Up       b  PrimaryNotReady
    59s Promoting       30 Up       b  PrimaryNotReady
    60s Promoting       30 Up       b  PrimaryNotReady
    61s Promoting       30 Up       b  PrimaryNotReady
        -- it is ready again --
    62s Promoting       10 Up       b  Dwell           Shifted
    63s Promoting       10 Up       b  Dwell
    72s Finalising       0 Up       b  RoutePending    Finalising
    73s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn a_canary_that_is_lost_while_the_primary_takes_over_has_no_traffic() {
    let mut cluster = with_promotion_steps();
    cluster.target.as_mut().unwrap().missing = 2;
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_snapshot!(cluster.log(), @r"
    0s Promoting        0 Up       b  PrimaryNotReady Retreated
    1s Finalising       0 Up       b  RoutePending    Finalising
    2s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn a_target_that_changes_while_the_primary_takes_over_has_no_traffic() {
    let mut cluster = with_promotion_steps();
    cluster.deploy("c");
    cluster.until(|state| matches!(state.phase, Phase::Progressing(_)));
    assert_snapshot!(cluster.log(), @r"
       -- the target is c --
    0s Promoting        0 Up       b  PrimaryNotReady Retreated
    1s Finalising       0 Up       b  RoutePending    Finalising
    2s Succeeded        0 Draining b  -               Succeeded
    3s Progressing      0 Up       b  CanaryNotReady  NewRevision
    ");
}

#[test]
fn a_promotion_without_steps_from_now_on_is_finished_at_once() {
    let mut cluster = with_promotion_steps();
    cluster.plan.promotion_step = None;
    cluster.gateway = Gateway::Lags;
    cluster.until(|state| matches!(state.phase, Phase::Finalising { .. }));
    assert_eq!(cluster.log().lines().count(), 1, "{}", cluster.log());
}
