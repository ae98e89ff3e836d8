//! Webhooks are asked.

use super::cluster::{Cluster, Says, plan, steps};
use crate::domain::{Hook, Phase, Plan, Steps, Verdict};
use Says::{No, Nothing, Yes};
use insta::assert_snapshot;

/// `b` is new, and weight 20 is the only step.
fn deployed(says: &[(Hook, &[Says])]) -> Cluster {
    let mut cluster = Cluster::at_rest();
    cluster.plan.steps = steps(&[20]);
    for (hook, says) in says {
        cluster.say(*hook, says.iter().copied());
    }
    cluster.deploy("b");
    cluster
}

fn ended(cluster: &mut Cluster) -> String {
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. } | Phase::Failed { .. }));
    cluster.log()
}

#[test]
fn confirm_rollout_is_waited_for_without_pods() {
    let mut cluster = deployed(&[(Hook::ConfirmRollout, &[No, Nothing, No])]);
    assert_snapshot!(ended(&mut cluster), @r"
        -- the target is b --
     0s Waiting          0 Down     a  Gate            NewRevision
     1s Waiting          0 Down     a  Gate            GateClosed ?confirm-rollout
     2s Waiting          0 Down     a  ..
    11s Waiting          0 Down     a  ..               ?confirm-rollout
    12s Waiting          0 Down     a  Gate             ?confirm-rollout
    13s Waiting          0 Down     a  ..
    22s Progressing      0 Up       a  CanaryNotReady  GateOpened ?confirm-rollout
    23s Progressing      0 Up       a  CanaryNotReady
    24s Progressing      0 Up       a  CanaryNotReady
    25s Progressing     20 Up       a  Dwell           Advanced
    26s Progressing     20 Up       a  ..
    35s Promoting       20 Up       b  PrimaryNotReady Promoting
    36s Promoting       20 Up       b  PrimaryNotReady
    37s Promoting       20 Up       b  PrimaryNotReady
    38s Finalising       0 Up       b  RoutePending    Finalising
    39s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn confirm_rollout_is_asked_even_when_the_analysis_is_skipped() {
    let mut cluster = deployed(&[(Hook::ConfirmRollout, &[No]), (Hook::PreRollout, &[No]), (Hook::Rollout, &[No])]);
    cluster.plan.skip_analysis = true;
    assert_snapshot!(ended(&mut cluster), @r"
        -- the target is b --
     0s Waiting          0 Down     a  Gate            NewRevision
     1s Waiting          0 Down     a  Gate            GateClosed ?confirm-rollout
     2s Waiting          0 Down     a  ..
    11s Progressing      0 Up       a  CanaryNotReady  GateOpened ?confirm-rollout
    12s Progressing      0 Up       a  CanaryNotReady
    13s Progressing      0 Up       a  CanaryNotReady
    14s Promoting        0 Up       b  PrimaryNotReady Promoting
    15s Promoting        0 Up       b  PrimaryNotReady
    16s Promoting        0 Up       b  PrimaryNotReady
    17s Finalising       0 Up       b  RoutePending    Finalising
    18s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn a_version_that_supersedes_another_waits_without_pods_too() {
    let mut cluster = Cluster::at_weight(20);
    cluster.say(Hook::ConfirmRollout, [No, No]);
    cluster.deploy("c");
    cluster.passes(3);
    cluster.deploy("d");
    cluster.until(|state| state.weight().canary() > 0);
    assert_snapshot!(cluster.log(), @r"
        -- the target is c --
     0s Waiting          0 Stale    a  Gate            Superseded NewRevision
     1s Waiting          0 Draining a  Gate            GateClosed ?confirm-rollout
     2s Waiting          0 Draining a  ..
        -- the target is d --
     6s Waiting          0 Stale    a  Gate            Superseded NewRevision
     7s Waiting          0 Draining a  Gate            GateClosed ?confirm-rollout
     8s Waiting          0 Draining a  ..
    12s Waiting          0 Draining a  ..
    13s Waiting          0 Down     a  ..
    14s Waiting          0 Down     a  ..
    17s Progressing      0 Up       a  CanaryNotReady  GateOpened ?confirm-rollout
    18s Progressing      0 Up       a  CanaryNotReady
    19s Progressing      0 Up       a  CanaryNotReady
    20s Progressing     20 Up       a  Dwell           Advanced
    ");
}

#[test]
fn back_to_the_promoted_version_ends_the_waiting() {
    let mut cluster = deployed(&[(Hook::ConfirmRollout, &[No; 9])]);
    cluster.passes(3);
    cluster.deploy("a");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Waiting          0 Down     a  Gate            NewRevision
     1s Waiting          0 Down     a  Gate            GateClosed ?confirm-rollout
     2s Waiting          0 Down     a  ..
        -- the target is a --
    11s Succeeded        0 Down     a  RoutePending    Restored
    12s Succeeded        0 Down     a  -
    ");
}

#[test]
fn pods_that_began_with_another_config_go_before_a_version_that_waited_is_started() {
    let mut cluster = Cluster::new();
    cluster.config = "1";
    cluster.settle();
    cluster.deploy("b");
    cluster.until(|state| state.weight().canary() == 20);
    cluster.restart();
    cluster.say(Hook::ConfirmRollout, [No]);
    cluster.configure("2");
    cluster.passes(1);
    cluster.until(|state| state.weight().canary() > 0);
    assert_eq!(cluster.target.as_ref().unwrap().began, "2");
    assert_snapshot!(cluster.log(), @r"
        -- the config is 2 --
     0s Waiting          0 Stale    a1 Gate            Superseded NewRevision
     1s Waiting          0 Draining a1 Gate            GateClosed ?confirm-rollout
     2s Waiting          0 Draining a1 ..
     6s Waiting          0 Draining a1 ..
     7s Waiting          0 Down     a1 ..
     8s Waiting          0 Down     a1 ..
    11s Progressing      0 Up       a1 CanaryNotReady  GateOpened ?confirm-rollout
    12s Progressing      0 Up       a1 CanaryNotReady
    13s Progressing      0 Up       a1 CanaryNotReady
    14s Progressing     20 Up       a1 Dwell           Advanced
    ");
}

#[test]
fn pre_rollout_is_asked_before_any_copy_and_a_no_is_a_failed_check() {
    let mut cluster = deployed(&[(Hook::PreRollout, &[No, Yes])]);
    cluster.plan =
        Plan { steps: Steps::at_once(), checks_before: 1, mirror: crate::domain::Weight::FULL, ..cluster.plan };
    cluster.plan.threshold = 2;
    assert_snapshot!(ended(&mut cluster), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  Dwell
     4s Progressing      0 Up       a  CheckFailed     CheckFailed ?pre-rollout
     5s Progressing      0 Up       a  ..
    14s Progressing      0 Up       a  Dwell            ~100 ?pre-rollout
    15s Progressing      0 Up       a  ..               ~100
    24s Progressing    100 Up       a  Dwell           Advanced
    25s Progressing    100 Up       a  ..
    34s Promoting      100 Up       b  PrimaryNotReady Promoting
    35s Promoting      100 Up       b  PrimaryNotReady
    36s Promoting      100 Up       b  PrimaryNotReady
    37s Finalising       0 Up       b  RoutePending    Finalising
    38s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn pre_rollout_ends_it_at_the_threshold() {
    let mut cluster = deployed(&[(Hook::PreRollout, &[Nothing, No])]);
    assert_snapshot!(ended(&mut cluster), @r"
       -- the target is b --
    0s Progressing      0 Up       a  CanaryNotReady  NewRevision
    1s Progressing      0 Up       a  CanaryNotReady
    2s Progressing      0 Up       a  CanaryNotReady
    3s Progressing      0 Up       a  Dwell
    4s Progressing      0 Up       a  ..               ?pre-rollout
    5s Failed           0 Up       a  RoutePending    RolledBack ?pre-rollout
    ");
}

#[test]
fn pre_rollout_is_not_asked_again_while_another_gate_is_closed() {
    let mut cluster = deployed(&[(Hook::PreRollout, &[Yes, No]), (Hook::ConfirmTrafficIncrease, &[No, No, Nothing])]);
    assert_snapshot!(ended(&mut cluster), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  Dwell
     4s Progressing      0 Up       a  Dwell            ?pre-rollout
     5s Progressing      0 Up       a  Gate            GateClosed ?confirm-traffic-increase
     6s Progressing      0 Up       a  ..
    15s Progressing      0 Up       a  Gate             ?confirm-traffic-increase
    16s Progressing      0 Up       a  ..
    25s Progressing      0 Up       a  ..               ?confirm-traffic-increase
    26s Progressing     20 Up       a  Dwell           GateOpened Advanced ?confirm-traffic-increase
    27s Progressing     20 Up       a  ..
    36s Promoting       20 Up       b  PrimaryNotReady Promoting
    37s Promoting       20 Up       b  PrimaryNotReady
    38s Promoting       20 Up       b  PrimaryNotReady
    39s Finalising       0 Up       b  RoutePending    Finalising
    40s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn rollout_is_asked_with_every_check_and_a_no_is_a_failed_check() {
    let mut cluster = deployed(&[(Hook::Rollout, &[Yes, No, No])]);
    cluster.plan = Plan { checks_before: 1, threshold: 2, ..cluster.plan };
    cluster.until(|state| matches!(state.phase, Phase::Progressing(analysis) if analysis.failed == 1));
    let told = loop {
        let told = cluster.told();
        if !told.is_empty() {
            break told;
        }
    };
    assert_snapshot!(told.join("\n"), @r"
    all traffic goes to the primary: the rollout webhook gatekeeper said no: it answered 403 (failed check 2 of 2)
    ");
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  Dwell           Checking
     4s Progressing      0 Up       a  ..
    13s Progressing     20 Up       a  Dwell           Advanced ?rollout
    14s Progressing     20 Up       a  ..
    23s Progressing     20 Up       a  CheckFailed     CheckFailed ?rollout
    24s Progressing     20 Up       a  ..
    33s Failed           0 Up       a  RoutePending    RolledBack ?rollout
    ");
}

#[test]
fn an_answer_that_is_missing_holds_the_weight_and_is_asked_for_again() {
    let mut cluster = deployed(&[(Hook::Rollout, &[Nothing, Nothing, Yes])]);
    assert_snapshot!(ended(&mut cluster), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing     20 Up       a  Dwell           Advanced
     4s Progressing     20 Up       a  ..
    13s Progressing     20 Up       a  ..               ?rollout
    14s Progressing     20 Up       a  ..               ?rollout
    15s Promoting       20 Up       b  PrimaryNotReady Promoting ?rollout
    16s Promoting       20 Up       b  PrimaryNotReady
    17s Promoting       20 Up       b  PrimaryNotReady
    18s Finalising       0 Up       b  RoutePending    Finalising
    19s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn bad_metrics_decide_even_if_hooks_do_not_answer() {
    let mut cluster = deployed(&[(Hook::Rollout, &[Nothing]), (Hook::ConfirmPromotion, &[Nothing])]);
    cluster.answer([Verdict::Fail]);
    assert_snapshot!(ended(&mut cluster), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing     20 Up       a  Dwell           Advanced
     4s Progressing     20 Up       a  ..
    13s Failed           0 Up       a  RoutePending    RolledBack ?rollout ?confirm-promotion
    ");
}

#[test]
fn confirm_traffic_increase_holds_the_weight_and_the_checks_go_on() {
    let mut cluster = Cluster::at_weight(20);
    cluster.plan.threshold = 2;
    cluster.say(Hook::ConfirmTrafficIncrease, [No, No]);
    cluster.answer([Verdict::Pass, Verdict::Fail, Verdict::Pass]);
    cluster.until(|state| state.weight().canary() == 50);
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  Gate            GateClosed ?confirm-traffic-increase
    10s Progressing     20 Up       a  ..
    19s Progressing     20 Up       a  CheckFailed     CheckFailed ?confirm-traffic-increase
    20s Progressing     20 Up       a  ..
    29s Progressing     50 Up       a  Dwell           GateOpened Advanced ?confirm-traffic-increase
    ");
}

#[test]
fn confirm_promotion_shows_the_weight_as_it_is_and_a_breach_is_taken_back() {
    let mut cluster = deployed(&[(Hook::ConfirmPromotion, &[No; 5])]);
    cluster.answer([Verdict::Pass, Verdict::Pass, Verdict::Fail]);
    assert_snapshot!(ended(&mut cluster), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing     20 Up       a  Dwell           Advanced
     4s Progressing     20 Up       a  ..
    13s WaitingPromoti  20 Up       a  Gate            GateClosed ?confirm-promotion
    14s WaitingPromoti  20 Up       a  ..
    23s WaitingPromoti  20 Up       a  Gate             ?confirm-promotion
    24s WaitingPromoti  20 Up       a  ..
    33s Failed           0 Up       a  RoutePending    RolledBack ?confirm-promotion
    ");
}

#[test]
fn confirm_promotion_is_asked_without_a_mesh_too() {
    let mut cluster = deployed(&[(Hook::ConfirmPromotion, &[No])]);
    cluster.plan = Plan { steps: Steps::none(), checks_before: 1, ..cluster.plan };
    assert_snapshot!(ended(&mut cluster), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing      0 Up       a  Dwell           Checking
     4s Progressing      0 Up       a  ..
    13s WaitingPromoti   0 Up       a  Gate            GateClosed ?confirm-promotion
    14s WaitingPromoti   0 Up       a  ..
    23s Promoting        0 Up       b  PrimaryNotReady GateOpened Promoting ?confirm-promotion
    24s Promoting        0 Up       b  PrimaryNotReady
    25s Promoting        0 Up       b  PrimaryNotReady
    26s Finalising       0 Up       b  RoutePending    Finalising
    27s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn rollback_takes_the_version_back_while_it_waits() {
    let mut cluster = deployed(&[(Hook::ConfirmRollout, &[No; 5]), (Hook::Rollback, &[No, Yes])]);
    assert_snapshot!(ended(&mut cluster), @r"
        -- the target is b --
     0s Waiting          0 Down     a  Gate            NewRevision
     1s Waiting          0 Down     a  Gate            GateClosed ?confirm-rollout ?rollback
     2s Waiting          0 Down     a  ..
    11s Failed           0 Down     a  RoutePending    RolledBack ?confirm-rollout ?rollback
    ");
}

#[test]
fn rollback_takes_the_version_back_whatever_else_is_held() {
    let mut cluster = Cluster::at_weight(20);
    cluster.say(Hook::ConfirmTrafficIncrease, [No; 5]);
    cluster.say(Hook::Rollback, [No, Yes]);
    cluster.target.as_mut().unwrap().missing = 1;
    cluster.order("pause");
    assert_snapshot!(ended(&mut cluster), @r"
        -- pause --
     0s Progressing     20 Up       a  ..              Ordered
     1s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  CanaryNotReady   ?rollback
    10s Progressing     20 Up       a  ..
    19s Failed           0 Up       a  RoutePending    RolledBack ?rollback
    ");
}

#[test]
fn rollback_undoes_a_promotion() {
    let mut cluster = deployed(&[(Hook::Rollback, &[No, Yes])]);
    cluster.plan.promotion_step = Some(super::cluster::weight(5));
    cluster.until(|state| matches!(state.phase, Phase::Promoting(_)));
    cluster.restart();
    assert_snapshot!(ended(&mut cluster), @r"
    0s Promoting back   0 Up       a  PrimaryNotReady Retreated ?rollback
    1s Promoting back   0 Up       a  PrimaryNotReady
    2s Promoting back   0 Up       a  PrimaryNotReady
    3s Failed           0 Up       a  RoutePending    RolledBack
    ");
}

#[test]
fn post_rollout_is_told_once_and_its_failure_is_one_warning() {
    let mut cluster = deployed(&[(Hook::PostRollout, &[Nothing, No])]);
    cluster.until(|state| state.owed.is_some());
    cluster.restart();
    cluster.passes(1);
    assert_snapshot!(cluster.told().join("\n"), @r"
    the post-rollout webhook gatekeeper said no: it answered 403
    ");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
    0s Succeeded        0 Draining b  -                ?post-rollout
    1s Succeeded        0 Draining b  -               HookFailed ?post-rollout
    2s Succeeded        0 Draining b  -
    4s Succeeded        0 Draining b  -
    5s Succeeded        0 Down     b  -
    6s Succeeded        0 Down     b  -
    ");
}

#[test]
fn post_rollout_is_told_of_a_version_that_was_taken_back() {
    let mut cluster = deployed(&[(Hook::PostRollout, &[])]);
    cluster.answer([Verdict::Fail]);
    cluster.until(|state| state.owed.is_some());
    assert_eq!(cluster.state.owed.as_ref().map(|owed| (&*owed.revision.0, owed.succeeded)), Some(("b", false)));
    cluster.settle();
    assert_eq!(cluster.state.owed, None);
}

#[test]
fn a_closed_gate_says_who_closed_it_and_how_to_open_it() {
    let mut cluster = Cluster::at_rest();
    cluster.plan = Plan { steps: steps(&[20]), ..plan() };
    cluster.say(Hook::ConfirmRollout, [No]);
    cluster.deploy("b");
    cluster.passes(1);
    assert_snapshot!(cluster.told().join("\n"), @r"
    confirm-rollout is not open: the confirm-rollout webhook gatekeeper said no: it answered 403; to open it by hand: kubectl annotate --overwrite canary NAME serin.dev/command=approve
    ");
}
