//! The version is bad, or nobody can tell.

use super::cluster::Cluster;
use crate::domain::{OnInconclusive, Verdict};
use insta::assert_snapshot;

fn rollout(threshold: u32, answers: &[Verdict]) -> Cluster {
    let mut cluster = Cluster::at_weight(20);
    cluster.plan.threshold = threshold;
    cluster.answer(answers.iter().copied());
    cluster
}

#[test]
fn one_bad_check_ends_it_at_threshold_1() {
    let mut cluster = rollout(1, &[Verdict::Fail]);
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Failed           0 Up       a  RoutePending    RolledBack
    10s Failed           0 Draining a  -
    11s Failed           0 Draining a  -
    15s Failed           0 Draining a  -
    16s Failed           0 Down     a  -
    17s Failed           0 Down     a  -
    ");
}

#[test]
fn three_bad_checks_end_it_at_threshold_3_and_good_ones_between_do_not_count() {
    let mut cluster = rollout(3, &[Verdict::Fail, Verdict::Pass, Verdict::Fail, Verdict::Fail]);
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  CheckFailed     CheckFailed
    10s Progressing     20 Up       a  ..
    19s Progressing     50 Up       a  Dwell           Advanced
    20s Progressing     50 Up       a  ..
    29s Progressing     50 Up       a  CheckFailed     CheckFailed
    30s Progressing     50 Up       a  ..
    39s Failed           0 Up       a  RoutePending    RolledBack
    40s Failed           0 Draining a  -
    41s Failed           0 Draining a  -
    45s Failed           0 Draining a  -
    46s Failed           0 Down     a  -
    47s Failed           0 Down     a  -
    ");
}

#[test]
fn what_cannot_be_seen_is_taken_back() {
    let mut cluster = rollout(1, &[Verdict::Inconclusive, Verdict::Inconclusive]);
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  Inconclusive    Inconclusive
    10s Progressing     20 Up       a  ..
    19s Failed           0 Up       a  RoutePending    RolledBack
    20s Failed           0 Draining a  -
    21s Failed           0 Draining a  -
    25s Failed           0 Draining a  -
    26s Failed           0 Down     a  -
    27s Failed           0 Down     a  -
    ");
}

#[test]
fn what_cannot_be_seen_for_a_while_goes_on() {
    let mut cluster = rollout(1, &[Verdict::Inconclusive, Verdict::Pass, Verdict::Inconclusive]);
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  Inconclusive    Inconclusive
    10s Progressing     20 Up       a  ..
    19s Progressing     50 Up       a  Dwell           Advanced
    20s Progressing     50 Up       a  ..
    29s Progressing     50 Up       a  Inconclusive    Inconclusive
    30s Progressing     50 Up       a  ..
    39s Promoting       50 Up       b  PrimaryNotReady Promoting
    40s Promoting       50 Up       b  PrimaryNotReady
    41s Promoting       50 Up       b  PrimaryNotReady
    42s Finalising       0 Up       b  RoutePending    Finalising
    43s Succeeded        0 Draining b  -               Succeeded
    44s Succeeded        0 Draining b  -
    48s Succeeded        0 Draining b  -
    49s Succeeded        0 Down     b  -
    50s Succeeded        0 Down     b  -
    ");
}

#[test]
fn what_cannot_be_seen_is_held_if_the_plan_says_so() {
    let mut cluster = rollout(1, &[Verdict::Inconclusive; 4]);
    cluster.plan.on_inconclusive = OnInconclusive::Hold;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  Inconclusive    Inconclusive
    10s Progressing     20 Up       a  ..
    19s Progressing     20 Up       a  Inconclusive    Inconclusive
    20s Progressing     20 Up       a  ..
    29s Progressing     20 Up       a  Inconclusive
    30s Progressing     20 Up       a  ..
    39s Progressing     20 Up       a  Inconclusive
    40s Progressing     20 Up       a  ..
    49s Progressing     50 Up       a  Dwell           Advanced
    50s Progressing     50 Up       a  ..
    59s Promoting       50 Up       b  PrimaryNotReady Promoting
    60s Promoting       50 Up       b  PrimaryNotReady
    61s Promoting       50 Up       b  PrimaryNotReady
    62s Finalising       0 Up       b  RoutePending    Finalising
    63s Succeeded        0 Draining b  -               Succeeded
    64s Succeeded        0 Draining b  -
    68s Succeeded        0 Draining b  -
    69s Succeeded        0 Down     b  -
    70s Succeeded        0 Down     b  -
    ");
}

#[test]
fn a_canary_that_is_never_ready_is_taken_back_at_the_deadline() {
    let mut cluster = Cluster::at_rest();
    cluster.broken.push("b");
    cluster.deploy("b");
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
    60s Failed           0 Up       a  RoutePending    RolledBack
    61s Failed           0 Draining a  -
    62s Failed           0 Draining a  -
    66s Failed           0 Draining a  -
    67s Failed           0 Down     a  -
    68s Failed           0 Down     a  -
    ");
}

#[test]
fn lost_pods_lose_their_traffic_and_begin_again_if_the_threshold_allows() {
    let mut cluster = rollout(2, &[]);
    cluster.passes(1);
    cluster.note("no pod is available");
    cluster.target.as_mut().unwrap().missing = 2;
    cluster.passes(2);
    cluster.note("they are back");
    cluster.target.as_mut().unwrap().missing = 0;
    cluster.passes(3);
    cluster.note("and away again");
    cluster.target.as_mut().unwrap().missing = 2;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
        -- no pod is available --
     9s Progressing      0 Up       a  CheckFailed     Retreated
    10s Progressing      0 Up       a  CanaryNotReady
        -- they are back --
    69s Progressing     20 Up       a  Dwell           Advanced
    70s Progressing     20 Up       a  ..
    79s Progressing     50 Up       a  Dwell           Advanced
        -- and away again --
    80s Failed           0 Up       a  RoutePending    RolledBack
    81s Failed           0 Draining a  -
    82s Failed           0 Draining a  -
    86s Failed           0 Draining a  -
    87s Failed           0 Down     a  -
    88s Failed           0 Down     a  -
    ");
}

#[test]
fn pods_that_are_not_all_ready_stop_the_steps_and_not_the_checks() {
    let mut cluster = rollout(1, &[Verdict::Pass, Verdict::Pass, Verdict::Fail]);
    cluster.target.as_mut().unwrap().missing = 1;
    cluster.settle();
    assert_snapshot!(cluster.log(), @r"
     0s Progressing     20 Up       a  ..
     9s Progressing     20 Up       a  CanaryNotReady
    10s Progressing     20 Up       a  ..
    19s Progressing     20 Up       a  CanaryNotReady
    20s Progressing     20 Up       a  ..
    29s Failed           0 Up       a  RoutePending    RolledBack
    30s Failed           0 Draining a  -
    31s Failed           0 Draining a  -
    35s Failed           0 Draining a  -
    36s Failed           0 Down     a  -
    37s Failed           0 Down     a  -
    ");
}
