//! How many pods a primary needs before it gets traffic.
//!
//! Invariant: a primary with an autoscaler, which may have shrunk it while the canary answered in its place, gets no share
//! that it has too few pods for. One without has the number of pods that the app is meant to have, which is waited for.

use crate::domain::{Percent, Pods, Primary, Weight};

/// How many pods the primary needs for all requests, of which the canary now answers `weight` with `canary` pods, and the
/// primary the rest with its own. What either has says how many would do for everything, and says it rather too high;
/// the lower of the two is enough. It never has fewer than either has.
pub(super) fn needed(primary: Option<&Primary>, canary: u32, weight: Weight) -> u32 {
    let Some(Primary { pods, most: Some(most), .. }) = primary else { return canary.max(1) };
    let estimates = [for_all(canary, weight.canary()), for_all(pods.wanted, weight.primary())];
    let enough = estimates.into_iter().flatten().min().unwrap_or_default();
    enough.max(canary).max(pods.wanted).min(*most).max(1)
}

/// How many pods all requests need if so many serve `percent` of them; nothing when they serve none.
fn for_all(pods: u32, percent: u8) -> Option<u32> {
    let all = (u64::from(pods) * 100).div_ceil(u64::from(percent).max(1));
    (percent > 0).then(|| u32::try_from(all).unwrap_or(u32::MAX))
}

/// Whether the primary's pods are enough for `share` percent of the requests, if `replicas` are for all of them.
pub(super) fn suffices(primary: &Primary, ready: Percent, replicas: u32, share: u8) -> bool {
    let Some(most) = primary.most else { return true };
    let all = u64::from(replicas.min(most));
    let part = u32::try_from((all * u64::from(share)).div_ceil(100)).unwrap_or(u32::MAX);
    primary.pods.available >= ready.of(part)
}

/// The primary's pods, of as many as it needs.
pub(super) fn asked_for(primary: &Primary, replicas: u32) -> Pods {
    let wanted = primary.most.map_or(0, |most| replicas.min(most)).max(primary.pods.wanted);
    Pods { wanted, ..primary.pods }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn primary(pods: u32, most: Option<u32>) -> Primary {
        let pods = Pods { wanted: pods, updated: pods, available: pods, total: pods, current: true };
        Primary { revision: None, pods, most }
    }

    fn weight(percent: u8) -> Weight {
        Weight::try_from(i64::from(percent)).unwrap()
    }

    #[test]
    fn what_the_two_versions_have_says_what_one_needs() {
        let cases = [
            // Canary, its weight, primary, most, needed.
            (4, 100, 1, 10, 4),
            (2, 50, 2, 10, 4),
            (3, 50, 1, 10, 3),
            (2, 10, 9, 20, 10),
            (2, 10, 2, 20, 3),
            (5, 0, 3, 20, 5),
            (2, 0, 3, 20, 3),
            (6, 60, 4, 20, 10),
            (6, 60, 4, 8, 8),
            (0, 50, 0, 8, 1),
        ];
        for (canary, percent, own, most, expected) in cases {
            let found = needed(Some(&primary(own, Some(most))), canary, weight(percent));
            assert_eq!(found, expected, "{canary} at {percent}, {own} of {most}");
        }
        assert_eq!(needed(Some(&primary(9, None)), 2, weight(50)), 2, "without an autoscaler the app says how many");
        assert_eq!(needed(None, 0, weight(50)), 1);
    }

    #[test]
    fn a_share_needs_its_part_of_the_pods() {
        let has = |pods, percent, share| {
            let ready = Percent::try_from(percent).unwrap();
            suffices(&primary(pods, Some(8)), ready, 10, share)
        };
        assert!(has(8, 100, 100), "no more than the autoscaler gives");
        assert!(!has(7, 100, 100));
        assert!(has(4, 100, 50) && !has(3, 100, 50));
        assert!(has(4, 50, 100) && !has(3, 50, 100));
        assert!(suffices(&primary(0, None), Percent::ALL, 10, 100));
    }

    proptest! {
        #[test]
        fn what_is_needed_is_enough_and_not_more_than_there_is(
            canary in 0..=50_u32, own in 0..=50_u32, most in 1..=100_u32, percent in 0..=100_u8,
        ) {
            let needed = needed(Some(&primary(own, Some(most))), canary, weight(percent));
            prop_assert!(needed >= 1 && needed <= most);
            prop_assert!(needed >= canary.max(own).min(most));
            prop_assert!(needed <= (canary + own).max(1), "both together are enough in any case");
        }
    }
}
