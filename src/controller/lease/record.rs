//! What is written into a Lease, and what can be told from it: pure but for the time of day.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use super::LEASE;
use crate::controller::Clock;

/// [`LEASE`] as the record has it.
const LEASE_SECONDS: i32 = 15;

/// What a released Lease is said to last, because zero is not allowed.
const RELEASED_SECONDS: i32 = 1;

/// A Lease whose duration was edited to something longer is not waited for any longer than this.
const LONGEST_WAIT: Duration = Duration::from_mins(2);

/// The record of a new term. Fields that we do not know stay.
pub(super) fn claimed(former: Option<&LeaseSpec>, identity: &str) -> LeaseSpec {
    let now = now_unlike(former.and_then(|former| former.acquire_time.as_ref()));
    let transitions = former.map_or(0, |former| {
        let changes_hands = former.holder_identity.as_deref() != Some(identity);
        former.lease_transitions.unwrap_or(0).max(0).saturating_add(i32::from(changes_hands))
    });
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(LEASE_SECONDS),
        acquire_time: Some(now.clone()),
        renew_time: Some(now),
        lease_transitions: Some(transitions),
        ..former.cloned().unwrap_or_default()
    }
}

/// The record of a term that goes on.
pub(super) fn renewed(ours: &LeaseSpec) -> LeaseSpec {
    LeaseSpec { renew_time: Some(now_unlike(ours.renew_time.as_ref())), ..ours.clone() }
}

/// The record of a term that ended well: nobody has to wait.
pub(super) fn released(ours: &LeaseSpec) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(RELEASED_SECONDS),
        renew_time: Some(now_unlike(ours.renew_time.as_ref())),
        ..ours.clone()
    }
}

/// Whether somebody is in the record.
pub(super) fn is_held(record: &LeaseSpec) -> bool {
    record.holder_identity.as_deref().is_some_and(|holder| !holder.is_empty())
}

/// Whether two records are of the same term. The time of acquisition tells apart two processes that were wrongly given
/// the same identity.
pub(super) fn is_same_term(ours: &LeaseSpec, found: &LeaseSpec) -> bool {
    ours.holder_identity == found.holder_identity && ours.acquire_time == found.acquire_time
}

/// How long a record must stay as it is before `identity` may take the Lease. Never shorter than our own duration,
/// whatever an edit by hand makes of it, because the leader counts on that.
pub(super) fn wait_before_taking(record: &LeaseSpec, identity: &str) -> Duration {
    let seconds = record.lease_duration_seconds.unwrap_or(LEASE_SECONDS);
    let is_ours = record.holder_identity.as_deref() == Some(identity);
    // A holder that was only wiped out, by hand, may not know it yet.
    let is_given_up = !is_held(record) && (seconds <= RELEASED_SECONDS || record.renew_time.is_none());
    if is_ours || is_given_up {
        return Duration::ZERO;
    }
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0)).clamp(LEASE, LONGEST_WAIT)
}

/// The time of day for the record, which the wire format keeps to the microsecond. Never the `former` one again, even when
/// the clock stands still or is set back: a write that changes nothing is no sign of life, because the API server does
/// not give the object a new version for it.
fn now_unlike(former: Option<&MicroTime>) -> MicroTime {
    let now = Clock::System.now();
    let taken = former.is_some_and(|former| former.0 == now);
    MicroTime(if taken { now + SignedDuration::from_micros(1) } else { now })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_says_how_long_the_lease_lasts() {
        assert_eq!(Duration::from_secs(u64::try_from(LEASE_SECONDS).unwrap()), LEASE);
    }

    #[test]
    fn a_record_goes_over_the_wire_unchanged_with_microseconds() {
        let record = claimed(None, "a");
        let wire = serde_json::to_value(&record).unwrap();
        let time = wire["renewTime"].as_str().unwrap();
        assert!(time.len() == "2026-01-01T00:00:00.000000Z".len() && time.ends_with('Z'), "{time}");
        assert_eq!(serde_json::from_value::<LeaseSpec>(wire).unwrap(), record);
    }

    #[test]
    fn transitions_count_changes_of_the_holder() {
        let first = claimed(None, "a");
        assert_eq!(first.lease_transitions, Some(0));
        assert_eq!(claimed(Some(&first), "a").lease_transitions, Some(0));
        let second = claimed(Some(&first), "b");
        assert_eq!(second.lease_transitions, Some(1));
        assert_eq!(claimed(Some(&released(&second)), "a").lease_transitions, Some(2));
        let edited = LeaseSpec { lease_transitions: Some(i32::MAX), ..first };
        assert_eq!(claimed(Some(&edited), "b").lease_transitions, Some(i32::MAX));
    }

    #[test]
    fn an_edit_by_hand_can_lengthen_the_wait_within_reason_but_not_shorten_it() {
        let held = claimed(None, "a");
        let with = |seconds| LeaseSpec { lease_duration_seconds: seconds, ..held.clone() };
        for (seconds, wait) in
            [(Some(15), 15), (Some(1), 15), (Some(-3), 15), (None, 15), (Some(60), 60), (Some(i32::MAX), 120)]
        {
            assert_eq!(wait_before_taking(&with(seconds), "b"), Duration::from_secs(wait), "{seconds:?}");
        }
        let wiped = LeaseSpec { holder_identity: None, ..held.clone() };
        assert_eq!(wait_before_taking(&wiped, "b"), LEASE);
    }

    #[test]
    fn nobody_waits_for_what_is_free_or_was_theirs() {
        let held = claimed(None, "a");
        assert_eq!(wait_before_taking(&held, "a"), Duration::ZERO);
        assert_eq!(wait_before_taking(&released(&held), "b"), Duration::ZERO);
        assert_eq!(wait_before_taking(&LeaseSpec::default(), "b"), Duration::ZERO);
    }

    #[test]
    fn no_renewal_and_no_term_looks_like_the_one_before() {
        let mut record = claimed(None, "a");
        for _ in 0..100 {
            let next = renewed(&record);
            assert_ne!(next, record);
            assert!(is_same_term(&record, &next));
            assert!(!is_same_term(&next, &claimed(Some(&next), "a")));
            record = next;
        }
    }
}
