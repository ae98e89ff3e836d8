//! A person takes the rollout in hand.

use super::cluster::{Cluster, Says, weight};
use crate::domain::{Hook, Order, Phase, Plan, Verdict};
use insta::assert_snapshot;

fn ended(cluster: &mut Cluster) -> String {
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. } | Phase::Failed { .. }));
    cluster.log()
}

fn waiting() -> Cluster {
    let mut cluster = Cluster::at_rest();
    cluster.say(Hook::ConfirmRollout, [Says::No; 99]);
    cluster.deploy("b");
    cluster.passes(2);
    cluster
}

fn promoting() -> Cluster {
    let mut cluster = Cluster::at_weight(50);
    cluster.until(|state| matches!(state.phase, Phase::Promoting(_)));
    cluster.restart();
    cluster
}

fn failed() -> Cluster {
    let mut cluster = Cluster::at_weight(20);
    cluster.answer([Verdict::Fail]);
    cluster.until(|state| matches!(state.phase, Phase::Failed { .. }));
    cluster.restart();
    cluster
}

/// What is told of an order.
fn told(mut cluster: Cluster, order: &'static str) -> String {
    cluster.order(order);
    cluster.told().first().cloned().unwrap_or_default()
}

#[test]
fn approve_starts_a_version_that_waits() {
    let mut cluster = waiting();
    cluster.order("approve");
    cluster.passes(4);
    assert_snapshot!(cluster.log(), @r"
       -- the target is b --
    0s Waiting          0 Down     a  Gate            NewRevision
    1s Waiting          0 Down     a  Gate            GateClosed ?confirm-rollout
       -- approve --
    2s Progressing      0 Up       a  CanaryNotReady  Ordered GateOpened
    3s Progressing      0 Up       a  CanaryNotReady
    4s Progressing      0 Up       a  CanaryNotReady
    5s Progressing     20 Up       a  Dwell           Advanced
    ");
}

#[test]
fn approve_opens_one_gate_once() {
    let mut cluster = Cluster::at_weight(20);
    cluster.plan.steps = super::cluster::steps(&[20, 30, 50]);
    cluster.say(Hook::ConfirmTrafficIncrease, [Says::No; 99]);
    cluster.until(|state| matches!(state.phase, Phase::Progressing(analysis) if analysis.gate.is_some()));
    cluster.order("approve");
    cluster.passes(12);
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  Gate            GateClosed ?confirm-traffic-increase
        -- approve --
    10s Progressing     20 Up       a  ..              Ordered
    11s Progressing     30 Up       a  Dwell           GateOpened Advanced
    12s Progressing     30 Up       a  ..
    21s Progressing     30 Up       a  Gate            GateClosed ?confirm-traffic-increase
    22s Progressing     30 Up       a  ..
    31s Progressing     30 Up       a  Gate             ?confirm-traffic-increase
    32s Progressing     30 Up       a  ..
    41s Progressing     30 Up       a  Gate             ?confirm-traffic-increase
    42s Progressing     30 Up       a  ..
    51s Progressing     30 Up       a  Gate             ?confirm-traffic-increase
    52s Progressing     30 Up       a  ..
    61s Progressing     30 Up       a  Gate             ?confirm-traffic-increase
    ");
}

#[test]
fn approve_promotes_only_what_passes_its_next_check() {
    let mut cluster = Cluster::at_weight(50);
    cluster.plan.threshold = 2;
    cluster.say(Hook::ConfirmPromotion, [Says::No; 99]);
    cluster.answer([Verdict::Pass, Verdict::Fail, Verdict::Pass]);
    cluster.until(|state| matches!(state.phase, Phase::Progressing(analysis) if analysis.gate.is_some()));
    cluster.order("approve");
    assert_snapshot!(ended(&mut cluster), @r"
     0s Progressing     50 Up       a  ..
     9s WaitingPromoti  50 Up       a  Gate            GateClosed ?confirm-promotion
        -- approve --
    10s WaitingPromoti  50 Up       a  ..              Ordered
    11s WaitingPromoti  50 Up       a  CheckFailed     CheckFailed
    12s WaitingPromoti  50 Up       a  ..
    21s Promoting       50 Up       b  PrimaryNotReady GateOpened Promoting
    22s Promoting       50 Up       b  PrimaryNotReady
    23s Promoting       50 Up       b  PrimaryNotReady
    24s Finalising       0 Up       b  RoutePending    Finalising
    25s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn pause_holds_the_weight_until_resume() {
    let mut cluster = Cluster::at_weight(20);
    cluster.order("pause");
    cluster.passes(6);
    cluster.order("resume");
    cluster.until(|state| state.weight() == weight(50));
    assert_snapshot!(cluster.log(), @r"
        -- pause --
     0s Progressing     20 Up       a  ..              Ordered
     1s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  Paused
    10s Progressing     20 Up       a  ..
    19s Progressing     20 Up       a  Paused
    20s Progressing     20 Up       a  ..
        -- resume --
    29s Progressing     50 Up       a  Dwell           Ordered Advanced
    ");
}

#[test]
fn a_breach_of_what_is_paused_is_taken_back() {
    let mut cluster = Cluster::at_weight(50);
    cluster.order("pause");
    cluster.answer([Verdict::Pass, Verdict::Fail]);
    assert_snapshot!(ended(&mut cluster), @r"
        -- pause --
     0s Progressing     50 Up       a  ..              Ordered
     1s Progressing     50 Up       a  ..
     9s Progressing     50 Up       a  Paused
    10s Progressing     50 Up       a  ..
    19s Failed           0 Up       a  RoutePending    RolledBack
    ");
}

#[test]
fn pause_holds_what_skips_its_analysis() {
    let mut cluster = Cluster::at_rest();
    cluster.plan.skip_analysis = true;
    cluster.deploy("b");
    cluster.passes(1);
    cluster.order("pause");
    cluster.settle();
    cluster.order("resume");
    assert_snapshot!(ended(&mut cluster), @r"
       -- the target is b --
    0s Progressing      0 Up       a  CanaryNotReady  NewRevision
       -- pause --
    1s Progressing      0 Up       a  CanaryNotReady  Ordered
    2s Progressing      0 Up       a  CanaryNotReady
    3s Progressing      0 Up       a  Paused
    4s Progressing      0 Up       a  Paused
       -- resume --
    5s Promoting        0 Up       b  PrimaryNotReady Ordered Promoting
    6s Promoting        0 Up       b  PrimaryNotReady
    7s Promoting        0 Up       b  PrimaryNotReady
    8s Finalising       0 Up       b  RoutePending    Finalising
    9s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn promote_skips_the_rest() {
    let mut cluster = Cluster::at_weight(20);
    cluster.order("promote");
    assert_snapshot!(ended(&mut cluster), @r"
       -- promote --
    0s Promoting       20 Up       b  PrimaryNotReady Ordered Promoting
    1s Promoting       20 Up       b  PrimaryNotReady
    2s Promoting       20 Up       b  PrimaryNotReady
    3s Finalising       0 Up       b  RoutePending    Finalising
    4s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn promote_waits_for_the_pods_and_nothing_else() {
    let mut cluster = waiting();
    cluster.plan.checks_before = 3;
    cluster.say(Hook::PreRollout, [Says::No; 9]);
    cluster.say(Hook::ConfirmPromotion, [Says::No; 9]);
    cluster.order("promote");
    assert_snapshot!(ended(&mut cluster), @r"
       -- the target is b --
    0s Waiting          0 Down     a  Gate            NewRevision
    1s Waiting          0 Down     a  Gate            GateClosed ?confirm-rollout
       -- promote --
    2s Progressing      0 Up       a  CanaryNotReady  Ordered GateOpened
    3s Progressing      0 Up       a  CanaryNotReady
    4s Progressing      0 Up       a  CanaryNotReady
    5s Promoting        0 Up       b  PrimaryNotReady Promoting
    6s Promoting        0 Up       b  PrimaryNotReady
    7s Promoting        0 Up       b  PrimaryNotReady
    8s Finalising       0 Up       b  RoutePending    Finalising
    9s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn promote_leads_the_traffic_away_from_a_primary_that_pauses() {
    let mut cluster = Cluster::at_weight(20);
    cluster.plan = cluster.plan.clone().vacating_primary();
    cluster.order("promote");
    assert_snapshot!(ended(&mut cluster), @r"
       -- promote --
    0s Progressing    100 Up       a  Dwell           Ordered Advanced
    1s Promoting      100 Up       b  PrimaryNotReady Promoting
    2s Promoting      100 Up       b  PrimaryNotReady
    3s Promoting      100 Up       b  PrimaryNotReady
    4s Finalising       0 Up       b  RoutePending    Finalising
    5s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn abort_takes_the_version_back() {
    let mut cluster = Cluster::at_weight(50);
    cluster.order("abort");
    assert_snapshot!(ended(&mut cluster), @r"
       -- abort --
    0s Failed           0 Up       a  RoutePending    Ordered RolledBack
    ");
    let mut cluster = waiting();
    cluster.order("abort");
    assert_snapshot!(ended(&mut cluster), @r"
       -- the target is b --
    0s Waiting          0 Down     a  Gate            NewRevision
    1s Waiting          0 Down     a  Gate            GateClosed ?confirm-rollout
       -- abort --
    2s Failed           0 Down     a  RoutePending    Ordered RolledBack
    ");
}

#[test]
fn abort_undoes_a_promotion() {
    let mut cluster = promoting();
    cluster.order("abort");
    assert_snapshot!(ended(&mut cluster), @r"
       -- abort --
    0s Promoting back   0 Up       a  PrimaryNotReady Ordered Retreated
    1s Promoting back   0 Up       a  PrimaryNotReady
    2s Promoting back   0 Up       a  PrimaryNotReady
    3s Failed           0 Up       a  RoutePending    RolledBack
    ");
}

#[test]
fn abort_leaves_the_traffic_on_the_canary_while_the_primary_has_no_pods() {
    let mut cluster = promoting();
    cluster.plan.vacate_primary = true;
    cluster.order("abort");
    assert_snapshot!(ended(&mut cluster), @r"
       -- abort --
    0s Promoting back  50 Up       a  PrimaryNotReady Ordered Retreated
    1s Promoting back  50 Up       a  PrimaryNotReady
    2s Promoting back  50 Up       a  PrimaryNotReady
    3s Failed           0 Up       a  RoutePending    RolledBack
    ");
}

#[test]
fn abort_acts_on_what_is_suspended_and_nothing_else_does() {
    for order in ["approve", "pause", "resume", "promote", "retry"] {
        let mut cluster = Cluster::at_weight(20);
        cluster.plan.suspend = true;
        assert!(told(cluster, order).contains("suspend is set"), "{order}");
    }
    let mut cluster = Cluster::at_rest();
    cluster.deploy("b");
    cluster.passes(2);
    cluster.restart();
    cluster.plan.suspend = true;
    cluster.order("abort");
    cluster.passes(2);
    assert_snapshot!(cluster.log(), @r"
       -- abort --
    0s Failed           0 Up       a  RoutePending    Ordered RolledBack
    1s Failed           0 Up       a  Suspended
    ");
}

#[test]
fn retry_analyses_a_failed_version_anew_from_its_gate_on() {
    let mut cluster = failed();
    cluster.say(Hook::ConfirmRollout, [Says::No]);
    cluster.order("retry");
    cluster.passes(1);
    assert_snapshot!(ended(&mut cluster), @r"
        -- retry --
     0s Waiting          0 Stale    a  Gate            Ordered NewRevision
     1s Waiting          0 Draining a  Gate            GateClosed ?confirm-rollout
     2s Waiting          0 Draining a  ..
     6s Waiting          0 Draining a  ..
     7s Waiting          0 Down     a  ..
     8s Waiting          0 Down     a  ..
    11s Progressing      0 Up       a  CanaryNotReady  GateOpened ?confirm-rollout
    12s Progressing      0 Up       a  CanaryNotReady
    13s Progressing      0 Up       a  CanaryNotReady
    14s Progressing     20 Up       a  Dwell           Advanced
    15s Progressing     20 Up       a  ..
    24s Progressing     50 Up       a  Dwell           Advanced
    25s Progressing     50 Up       a  ..
    34s Promoting       50 Up       b  PrimaryNotReady Promoting
    35s Promoting       50 Up       b  PrimaryNotReady
    36s Promoting       50 Up       b  PrimaryNotReady
    37s Finalising       0 Up       b  RoutePending    Finalising
    38s Succeeded        0 Draining b  -               Succeeded
    ");
}

#[test]
fn retry_at_once_starts_the_pods_anew() {
    let mut cluster = failed();
    cluster.order("retry");
    cluster.until(|state| state.weight() == weight(20));
    assert_snapshot!(cluster.log(), @r"
        -- retry --
     0s Progressing      0 Stale    a  CanaryNotReady  Ordered NewRevision
     1s Progressing      0 Draining a  CanaryNotReady
     2s Progressing      0 Draining a  CanaryNotReady
     6s Progressing      0 Draining a  CanaryNotReady
     7s Progressing      0 Up       a  CanaryNotReady
     8s Progressing      0 Up       a  CanaryNotReady
     9s Progressing      0 Up       a  CanaryNotReady
    10s Progressing     20 Up       a  Dwell           Advanced
    ");
}

#[test]
fn what_is_retried_keeps_its_name_when_an_upgrade_changes_the_hashing() {
    let mut cluster = failed();
    cluster.hashing = "2";
    cluster.order("retry");
    cluster.passes(1);
    assert_eq!(cluster.state.candidate().map(|revision| &*revision.0), Some("b"));
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_eq!(cluster.state.promoted.as_ref().map(|revision| &*revision.0), Some("b"));
}

#[test]
fn an_order_is_taken_once_until_it_is_gone() {
    let mut cluster = failed();
    cluster.order("retry");
    cluster.answer([Verdict::Fail, Verdict::Fail]);
    cluster.passes(2);
    cluster.until(|state| matches!(state.phase, Phase::Failed { .. }));
    cluster.settle();
    assert_eq!(cluster.state.command.as_deref(), Some("retry"));
    cluster.ordered = None;
    cluster.settle();
    assert_eq!(cluster.state.command, None);
    assert!(matches!(cluster.state.phase, Phase::Failed { .. }));
    cluster.order("retry");
    cluster.passes(1);
    assert!(matches!(cluster.state.phase, Phase::Progressing(_)));
}

#[test]
fn what_cannot_be_done_says_why() {
    let mut paused = Cluster::at_weight(20);
    paused.order("pause");
    paused.passes(1);
    let mut undone = promoting();
    undone.order("abort");
    undone.passes(1);
    let stories = [
        ("at rest", Cluster::at_rest()),
        ("waiting", waiting()),
        ("progressing", Cluster::at_weight(20)),
        ("paused", paused),
        ("promoting", promoting()),
        ("undone", undone),
        ("failed", failed()),
    ];
    let mut said = String::new();
    for (name, cluster) in stories {
        for order in Order::ALL.map(|(name, _)| name).into_iter().filter(|order| cluster.ordered != Some(order)) {
            said = said + name + ": " + &told(cluster.clone(), order) + "\n";
        }
    }
    said += &told(Cluster::at_rest(), "aprove");
    assert_snapshot!(said, @r"
    at rest: the order approve by kubectl-annotate was not carried out: no gate is waited at now
    at rest: the order pause by kubectl-annotate was not carried out: nothing is being analysed; to hold new versions too, set spec.suspend
    at rest: the order resume by kubectl-annotate was not carried out: nothing is paused
    at rest: the order promote by kubectl-annotate was not carried out: there is no version to promote
    at rest: the order abort by kubectl-annotate was not carried out: there is nothing to take back
    at rest: the order retry by kubectl-annotate was not carried out: no version was taken back
    waiting: approved by kubectl-annotate: confirm-rollout is open
    waiting: the order pause by kubectl-annotate was not carried out: the version is not started yet, and waits for confirm-rollout anyway
    waiting: the order resume by kubectl-annotate was not carried out: nothing is paused
    waiting: promotion ordered by kubectl-annotate: the rest of the analysis is skipped
    waiting: aborted by kubectl-annotate
    waiting: the order retry by kubectl-annotate was not carried out: the version is being rolled out already
    progressing: the order approve by kubectl-annotate was not carried out: no gate is waited at now
    progressing: paused by kubectl-annotate at weight 20; checks go on
    progressing: the order resume by kubectl-annotate was not carried out: nothing is paused
    progressing: promotion ordered by kubectl-annotate: the rest of the analysis is skipped
    progressing: aborted by kubectl-annotate
    progressing: the order retry by kubectl-annotate was not carried out: the version is being rolled out already
    paused: the order approve by kubectl-annotate was not carried out: no gate is waited at now
    paused: resumed by kubectl-annotate at weight 20
    paused: promotion ordered by kubectl-annotate: the rest of the analysis is skipped
    paused: aborted by kubectl-annotate
    paused: the order retry by kubectl-annotate was not carried out: the version is being rolled out already
    promoting: the order approve by kubectl-annotate was not carried out: no gate is waited at now
    promoting: the order pause by kubectl-annotate was not carried out: the primary is being updated; order abort to take the version back, or set spec.suspend
    promoting: the order resume by kubectl-annotate was not carried out: nothing is paused
    promoting: the order promote by kubectl-annotate was not carried out: the version is being promoted already
    promoting: aborted by kubectl-annotate
    promoting: the order retry by kubectl-annotate was not carried out: the version is being rolled out already
    undone: the order approve by kubectl-annotate was not carried out: no gate is waited at now
    undone: the order pause by kubectl-annotate was not carried out: the primary is being updated; order abort to take the version back, or set spec.suspend
    undone: the order resume by kubectl-annotate was not carried out: nothing is paused
    undone: the order promote by kubectl-annotate was not carried out: there is no version to promote
    undone: the order retry by kubectl-annotate was not carried out: the version is being rolled out already
    failed: the order approve by kubectl-annotate was not carried out: no gate is waited at now
    failed: the order pause by kubectl-annotate was not carried out: nothing is being analysed; to hold new versions too, set spec.suspend
    failed: the order resume by kubectl-annotate was not carried out: nothing is paused
    failed: the order promote by kubectl-annotate was not carried out: the version was taken back; order retry to analyse it again
    failed: the order abort by kubectl-annotate was not carried out: the version was taken back already
    failed: retry ordered by kubectl-annotate: the version is analysed again
    the order aprove by kubectl-annotate was not carried out: nobody knows it; write one of approve, pause, resume, promote, abort, retry
    ");
}

#[test]
fn what_was_meant_for_one_version_is_not_done_to_another() {
    for order in ["approve", "promote"] {
        let mut cluster = waiting();
        cluster.deploy("c");
        cluster.order(order);
        cluster.passes(1);
        assert!(matches!(cluster.state.phase, Phase::Waiting { .. }), "{}", cluster.log());
    }
}

#[test]
fn what_is_deleted_takes_no_orders() {
    let mut cluster = Cluster::at_weight(20);
    cluster.plan = Plan { suspend: true, ..cluster.plan };
    cluster.deleted = true;
    assert!(told(cluster, "abort").contains("is being deleted"));
}
