//! A primary with an autoscaler gets no traffic that it has too few pods for.

use super::cluster::{Cluster, weight};
use crate::domain::{Answers, Percent, Phase, Pods, State, Weight, decide};
use insta::assert_snapshot;
use proptest::collection::vec;
use proptest::prelude::*;

/// At rest with autoscalers that give four pods at most.
fn autoscaled() -> Cluster {
    let mut cluster = Cluster::new();
    cluster.most = Some(4);
    cluster.settle();
    cluster.restart();
    cluster
}

#[test]
fn a_primary_that_shrank_while_the_canary_answered_grows_before_it_gets_the_traffic() {
    let mut cluster = autoscaled();
    cluster.deploy("b");
    cluster.until(|state| state.weight() == weight(50));
    cluster.autoscale(3, 1);
    let shrunk = cluster.primary.as_ref().unwrap().replicas;
    assert_eq!(shrunk, 1);
    cluster.until(|state| matches!(state.phase, Phase::Promoting(_)));
    assert_eq!(cluster.state.floor(), 3);
    cluster.autoscale(3, 1);
    cluster.until(|state| matches!(state.phase, Phase::Finalising { .. }));
    assert_eq!(cluster.world().primary.unwrap().pods.available, 3);
    cluster.autoscale(3, 1);
    assert_eq!(cluster.primary.as_ref().unwrap().replicas, 3, "until the gateway shows it");
    cluster.settle();
    assert_eq!(cluster.state.floor(), 0, "from now on the autoscaler has its way");
    assert_snapshot!(cluster.log(), @r"
        -- the target is b --
     0s Progressing      0 Up       a  CanaryNotReady  NewRevision
     1s Progressing      0 Up       a  CanaryNotReady
     2s Progressing      0 Up       a  CanaryNotReady
     3s Progressing     20 Up       a  Dwell           Advanced
     4s Progressing     20 Up       a  ..
    13s Progressing     50 Up       a  Dwell           Advanced
        -- the autoscalers want 3 and 1 pods --
    14s Progressing     50 Up       a  ..
    15s Progressing     50 Up       a  ..
    16s Progressing     50 Up       a  ..
    23s Promoting       50 Up       b  PrimaryNotReady Promoting
        -- the autoscalers want 3 and 1 pods --
    24s Promoting       50 Up       b  PrimaryNotReady
    25s Promoting       50 Up       b  PrimaryNotReady
    26s Finalising       0 Up       b  RoutePending    Finalising
        -- the autoscalers want 3 and 1 pods --
    27s Succeeded        0 Draining b  -               Succeeded
    28s Succeeded        0 Draining b  -
    32s Succeeded        0 Draining b  -
    33s Succeeded        0 Down     b  -
    34s Succeeded        0 Down     b  -
    ");
}

#[test]
fn what_the_autoscaler_never_gives_is_not_waited_for() {
    let mut cluster = autoscaled();
    cluster.deploy("b");
    cluster.until(|state| state.weight() == weight(50));
    cluster.autoscale(9, 1);
    cluster.until(|state| matches!(state.phase, Phase::Succeeded { .. }));
    assert_eq!(cluster.primary.unwrap().replicas, 4);
}

#[test]
fn a_primary_that_cannot_grow_keeps_its_share_and_the_promotion_ends() {
    let mut cluster = autoscaled();
    cluster.deploy("b");
    cluster.until(|state| state.weight() == weight(50));
    cluster.autoscale(4, 1);
    cluster.primary.as_mut().unwrap().missing = 1;
    cluster.until(|state| matches!(state.phase, Phase::Promoting(_)));
    cluster.until(|state| !matches!(&state.phase, Phase::Promoting(promotion) if promotion.undo.is_none()));
    assert_eq!(cluster.state.weight(), weight(50), "{}", cluster.log());
    let Phase::Promoting(promotion) = &cluster.state.phase else { panic!("{}", cluster.log()) };
    assert!(promotion.undo.as_ref().unwrap().contains("3 of 4 pods available"), "{promotion:?}");
    cluster.primary.as_mut().unwrap().missing = 0;
    cluster.until(|state| matches!(state.phase, Phase::Failed { .. }));
}

#[test]
fn an_app_that_is_handed_back_has_as_many_pods_as_its_primary() {
    let mut cluster = autoscaled();
    cluster.autoscale(0, 4);
    cluster.deleted = true;
    cluster.settle();
    assert_eq!(cluster.target.unwrap().replicas, 4);
}

fn is_promoting(state: &State) -> bool {
    matches!(state.phase, Phase::Promoting(_))
}

proptest! {
    /// Whatever the autoscalers do, and whenever: when all traffic goes to the primary, it has as many pods as the canary
    /// had when the promotion began, and enough for the whole if its own say so.
    #[test]
    fn a_promotion_ends_with_enough_pods(
        most in 1..=8_u32,
        last in 1..=100_u8,
        loads in vec((1..=8_u32, 1..=8_u32), 40),
    ) {
        let mut cluster = Cluster::new();
        cluster.most = Some(most);
        cluster.settle();
        cluster.plan.steps = super::cluster::steps(&[last]);
        cluster.deploy("b");
        let mut needed = 0;
        for (canary, primary) in loads {
            cluster.autoscale(canary.min(most), primary.min(most));
            let (had, before) = (cluster.world(), cluster.state.clone());
            cluster.passes(1);
            if is_promoting(&cluster.state) && !is_promoting(&before) {
                needed = had.target.unwrap().replicas.max(had.primary.unwrap().pods.wanted);
                prop_assert!(cluster.state.floor() >= needed.min(most));
            } else if is_promoting(&before) && cluster.state.weight() == Weight::ZERO {
                prop_assert!(had.primary.unwrap().pods.available >= needed.min(most), "{}", cluster.log());
                prop_assert!(cluster.state.floor() >= needed.min(most), "the floor holds until the gateway shows it");
            }
        }
    }

    /// One pass over any pods.
    #[test]
    fn no_traffic_moves_to_too_few_pods(
        counts in (0..=6_u32, 0..=6_u32, 0..=6_u32, 0..=6_u32, any::<bool>()),
        (replicas, most, ready, undo) in (1..=6_u32, 1..=6_u32, 1..=100_i64, any::<bool>()),
    ) {
        let mut cluster = Cluster::at_weight(50);
        cluster.until(is_promoting);
        let ready = Percent::try_from(ready).unwrap();
        cluster.plan.primary_ready = ready;
        cluster.state.replicas = replicas;
        if let (true, Phase::Promoting(promotion)) = (undo, &mut cluster.state.phase) {
            promotion.undo = Some("it did not become ready".into());
        }
        let (wanted, updated, available, total, current) = counts;
        let mut seen = cluster.world();
        let primary = seen.primary.as_mut().unwrap();
        primary.revision = cluster.state.primary_revision().cloned();
        primary.pods = Pods { wanted, updated, available, total, current };
        primary.most = Some(most);
        let pods = primary.pods;
        let next = decide(&cluster.plan, &cluster.state, &seen, &Answers::default()).state;
        let enough = pods.ready(ready) && available >= ready.of(replicas.min(most));
        prop_assert_eq!(next.weight() == Weight::ZERO, enough);
    }
}
