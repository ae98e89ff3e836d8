//! The election among several candidates, with time paused.

mod fake;

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep, timeout};

use self::fake::{Link, Server, Wire};
use super::{Candidate, LEASE, Leadership, Lost, MARGIN, RENEWAL};

fn candidate(server: &Server, identity: &str) -> (Candidate, Wire) {
    let (client, wire) = server.connect();
    (Candidate::new(client, "serin-system", "serin", identity), wire)
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A replica that leads when it can and stops when it must, like `serin run`.
struct Replica {
    wire: Wire,
    task: JoinHandle<Lost>,
    leadership: tokio::sync::watch::Receiver<Option<Leadership>>,
}

impl Replica {
    fn start(server: &Server, identity: &str) -> Self {
        let (candidate, wire) = candidate(server, identity);
        let (sender, leadership) = tokio::sync::watch::channel(None);
        let task = tokio::spawn(async move {
            let mut term = candidate.lead().await;
            sender.send_replace(Some(term.leadership()));
            term.keep().await
        });
        Self { wire, task, leadership }
    }

    fn is_certain(&self) -> bool {
        self.leadership.borrow().as_ref().is_some_and(Leadership::is_certain)
    }

    fn has_led(&self) -> bool {
        self.leadership.borrow().is_some()
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_leads_for_as_long_as_it_likes_and_the_second_waits() {
    let server = Server::default();
    let first = Replica::start(&server, "a");
    sleep(seconds(0.1)).await;
    let second = Replica::start(&server, "b");
    for _ in 0..600 {
        sleep(seconds(0.5)).await;
        assert!(first.is_certain() && !second.has_led());
    }
    let record = server.record();
    assert_eq!((record.holder_identity.as_deref(), record.lease_transitions), (Some("a"), Some(0)));
    assert_eq!(server.writes(), 1 + 300 / 5);
}

#[tokio::test(start_paused = true)]
async fn only_one_of_many_that_begin_together_leads() {
    let server = Server::default();
    let replicas: Vec<Replica> = (0..8).map(|number| Replica::start(&server, &number.to_string())).collect();
    for _ in 0..60 {
        sleep(seconds(0.5)).await;
        assert_eq!(replicas.iter().filter(|replica| replica.has_led()).count(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_crash_the_next_takes_over_when_the_lease_has_ended() {
    let server = Server::default();
    let first = Replica::start(&server, "a");
    let second = Replica::start(&server, "b");
    sleep(seconds(7.0)).await;
    assert!(first.has_led());
    first.task.abort();

    let mut waited = Duration::ZERO;
    while !second.has_led() {
        sleep(seconds(0.1)).await;
        waited += seconds(0.1);
    }
    assert!(waited + RENEWAL > LEASE && waited < LEASE + seconds(2.5), "{waited:?}");
    let record = server.record();
    assert_eq!((record.holder_identity.as_deref(), record.lease_transitions), (Some("b"), Some(1)));
    assert_eq!(record.acquire_time, record.renew_time);
}

/// The safety of it all: whatever happens to the leader's wire, at whatever moment, there are never two who are certain.
#[tokio::test(start_paused = true)]
async fn two_are_never_certain_at_once() {
    let slow = |there, back| Link::Up { there: seconds(there), back: seconds(back) };
    let faults =
        [Link::Refused, Link::Silent, Link::Deaf, slow(2.9, 0.0), slow(0.0, 2.9), slow(1.4, 1.4), slow(6.0, 0.0)];
    for fault in faults {
        for tenth in (0..60).step_by(3) {
            let server = Server::default();
            let first = Replica::start(&server, "a");
            sleep(seconds(0.1)).await;
            let second = Replica::start(&server, "b");
            sleep(seconds(20.0 + f64::from(tenth) / 10.0)).await;
            assert!(first.is_certain());
            first.wire.set(fault);
            for _ in 0..800 {
                sleep(seconds(0.05)).await;
                assert!(!(first.is_certain() && second.is_certain()), "{fault:?} {tenth}");
            }
            let cut_off = matches!(fault, Link::Refused | Link::Silent | Link::Deaf) || fault == slow(6.0, 0.0);
            assert_eq!(second.has_led(), cut_off, "{fault:?} {tenth}");
            assert_eq!(first.task.is_finished(), cut_off, "{fault:?} {tenth}");
            assert_eq!(first.is_certain(), !cut_off, "{fault:?} {tenth}");
            second.task.abort();
            first.task.abort();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_is_cut_off_falls_silent_in_time_and_says_why() {
    let server = Server::default();
    let (candidate, wire) = candidate(&server, "a");
    let mut term = candidate.lead().await;
    let leadership = term.leadership();
    wire.set(Link::Refused);

    let began = Instant::now();
    let lost = term.keep().await;
    assert!(began.elapsed() + MARGIN <= LEASE + seconds(0.01), "{:?}", began.elapsed());
    assert!(!leadership.is_certain());
    let said = crate::telemetry::chain(&lost);
    assert_eq!(
        said,
        "the Lease serin could not be renewed in time: could not replace the Lease serin: ServiceError: connection refused"
    );
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_stood_still_is_uncertain_before_it_does_anything_else() {
    let server = Server::default();
    let (candidate, _wire) = candidate(&server, "a");
    let mut term = candidate.lead().await;
    let leadership = term.leadership();
    advance(LEASE).await;
    assert!(!leadership.is_certain());
    assert_eq!(leadership.remaining(), Duration::ZERO);
    assert!(matches!(term.keep().await, Lost::RenewInTime { source: None, .. }));
    assert_eq!(server.writes(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_short_fault_costs_nothing() {
    let server = Server::default();
    let first = Replica::start(&server, "a");
    let second = Replica::start(&server, "b");
    sleep(seconds(4.0)).await;
    for fault in [Link::Refused, Link::Silent, Link::Deaf] {
        first.wire.set(fault);
        sleep(seconds(3.0)).await;
        first.wire.set(Link::FAST);
        sleep(seconds(10.0)).await;
        assert!(first.is_certain() && !second.has_led(), "{fault:?}");
    }
    assert_eq!(server.record().lease_transitions, Some(0));
}

#[tokio::test(start_paused = true)]
async fn a_release_hands_over_within_two_seconds() {
    let server = Server::default();
    let (first, _wire) = candidate(&server, "a");
    let mut term = first.lead().await;
    let second = Replica::start(&server, "b");
    timeout(seconds(30.0), term.keep()).await.unwrap_err();

    let leadership = term.leadership();
    term.release().await.unwrap();
    assert!(!leadership.is_certain());
    let record = server.record();
    assert_eq!((record.holder_identity.as_deref(), record.lease_duration_seconds), (Some(""), Some(1)));
    sleep(seconds(2.05)).await;
    assert!(second.is_certain());
    let record = server.record();
    assert_eq!((record.holder_identity.as_deref(), record.lease_transitions), (Some("b"), Some(1)));
    assert_eq!(record.lease_duration_seconds, Some(15));
}

#[tokio::test(start_paused = true)]
async fn a_release_ends_certainty_even_when_it_fails() {
    let server = Server::default();
    let (candidate, wire) = candidate(&server, "a");
    let term = candidate.lead().await;
    let leadership = term.leadership();
    wire.set(Link::Silent);
    term.release().await.unwrap_err();
    assert!(!leadership.is_certain());
}

#[tokio::test(start_paused = true)]
async fn a_release_leaves_the_lease_of_another_alone() {
    let server = Server::default();
    let (candidate, _wire) = candidate(&server, "a");
    let term = candidate.lead().await;
    server.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some("b".to_owned()));
    let writes = server.writes();
    term.release().await.unwrap();
    assert_eq!(server.writes(), writes);
}

#[tokio::test(start_paused = true)]
async fn a_restarted_process_resumes_its_lease_at_once() {
    let server = Server::default();
    let (before, _wire) = candidate(&server, "a");
    drop(before.lead().await);
    let (after, _wire) = candidate(&server, "a");
    let began = Instant::now();
    let term = after.lead().await;
    assert_eq!(began.elapsed(), Duration::ZERO);
    assert!(term.leadership().is_certain());
    assert_eq!(server.record().lease_transitions, Some(0));
}

#[tokio::test(start_paused = true)]
async fn of_two_processes_with_one_identity_the_former_gives_way() {
    let server = Server::default();
    let (one, _wire) = candidate(&server, "a");
    let mut first = one.lead().await;
    // The wall clock is not paused, and tells the two terms apart.
    std::thread::sleep(Duration::from_millis(2));
    let (other, _wire) = candidate(&server, "a");
    let _second = other.lead().await;
    let lost = timeout(RENEWAL + seconds(0.1), first.keep()).await.unwrap();
    assert!(matches!(lost, Lost::FindOther { holder, .. } if holder == "a"));
    assert!(!first.leadership().is_certain());
}

#[tokio::test(start_paused = true)]
async fn edits_by_hand_neither_end_a_term_nor_begin_a_second_one() {
    let server = Server::default();
    let first = Replica::start(&server, "a");
    let second = Replica::start(&server, "b");
    sleep(seconds(1.0)).await;
    let edits: [fn(&Server); 6] = [
        |server| server.edit(|lease| lease.metadata.labels = Some([("team".to_owned(), "x".to_owned())].into())),
        |server| server.edit(|lease| lease.spec.as_mut().unwrap().lease_duration_seconds = Some(1)),
        |server| server.edit(|lease| lease.spec.as_mut().unwrap().renew_time = None),
        |server| server.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = None),
        |server| server.edit(|lease| lease.spec.as_mut().unwrap().lease_transitions = None),
        Server::delete,
    ];
    for (number, edit) in edits.into_iter().enumerate() {
        edit(&server);
        for _ in 0..40 {
            sleep(seconds(0.5)).await;
            assert!(first.is_certain() && !second.has_led(), "edit {number}");
        }
        let record = server.record();
        assert_eq!((record.holder_identity.as_deref(), record.lease_duration_seconds), (Some("a"), Some(15)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_holder_written_in_by_hand_ends_the_term_at_the_next_renewal() {
    let server = Server::default();
    let (candidate, _wire) = candidate(&server, "a");
    let mut term = candidate.lead().await;
    server.edit(|lease| lease.spec.as_mut().unwrap().holder_identity = Some("nobody".to_owned()));
    let lost = timeout(RENEWAL + seconds(0.1), term.keep()).await.unwrap();
    assert_eq!(lost.to_string(), "the Lease serin is held by nobody now");
    assert!(!term.leadership().is_certain());
}

/// Neither a clock of the former leader that is ahead nor one that is behind matters.
#[tokio::test(start_paused = true)]
async fn the_times_in_the_record_do_not_count() {
    for time in ["2001-01-01T00:00:00.000000Z", "2999-01-01T00:00:00.000000Z"] {
        let server = Server::default();
        let spec = serde_json::json!({ "holderIdentity": "old", "leaseDurationSeconds": 15, "renewTime": time });
        server.edit(|lease| lease.spec = Some(serde_json::from_value(spec).unwrap()));
        let replica = Replica::start(&server, "a");
        sleep(seconds(14.9)).await;
        assert!(!replica.has_led());
        sleep(seconds(2.2)).await;
        assert!(replica.is_certain());
        replica.task.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_lease_is_taken_at_once_and_what_else_is_in_it_stays() {
    let server = Server::default();
    server.edit(|lease| lease.metadata.annotations = Some([("owner".to_owned(), "helm".to_owned())].into()));
    let (candidate, _wire) = candidate(&server, "a");
    let term = candidate.lead().await;
    assert!(term.leadership().is_certain());
    server.edit(|lease| assert!(lease.metadata.annotations.is_some()));
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_lease_is_waited_for() {
    let server = Server::default();
    let replica = Replica::start(&server, "a");
    replica.wire.set(Link::Refused);
    sleep(seconds(60.0)).await;
    assert!(!replica.has_led() && !replica.task.is_finished());
    replica.wire.set(Link::FAST);
    sleep(seconds(2.1)).await;
    assert!(replica.is_certain());
}

#[tokio::test(start_paused = true)]
async fn a_candidate_is_certain_of_nothing_until_it_leads() {
    let server = Server::default();
    let (first, _wire) = candidate(&server, "a");
    let (second, _wire) = candidate(&server, "b");
    let (leading, standing_by) = (first.leadership(), second.leadership());
    assert!(!leading.is_certain() && !leading.has_begun());
    assert_eq!(standing_by.during(async {}).await, None);
    let term = first.lead().await;
    leading.clone().begun().await;
    assert!(leading.is_certain() && leading.has_begun());
    assert!(!standing_by.is_certain() && !standing_by.has_begun());
    timeout(LEASE * 10, standing_by.clone().begun()).await.unwrap_err();
    term.release().await.unwrap();
    assert!(!leading.is_certain() && leading.has_begun(), "that it has led is no reason to write");
    drop(second);
    timeout(LEASE * 10, standing_by.begun()).await.unwrap_err();
}

#[tokio::test(start_paused = true)]
async fn what_is_done_under_the_lease_ends_with_it() {
    let server = Server::default();
    let (candidate, wire) = candidate(&server, "a");
    let leadership = candidate.leadership();
    let mut term = candidate.lead().await;
    let kept = tokio::spawn(async move { term.keep().await });
    // Renewals keep it alive.
    assert_eq!(leadership.during(sleep(LEASE * 3)).await, Some(()));
    wire.set(Link::Refused);
    let began = Instant::now();
    assert_eq!(leadership.during(sleep(LEASE * 3)).await, None);
    assert!(began.elapsed() + MARGIN <= LEASE + seconds(0.01), "{:?}", began.elapsed());
    kept.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_done_under_the_lease_ends_when_it_is_given_back() {
    let server = Server::default();
    let (candidate, _wire) = candidate(&server, "a");
    let term = candidate.lead().await;
    let leadership = term.leadership();
    let doing = tokio::spawn(async move { leadership.during(std::future::pending::<()>()).await });
    sleep(seconds(1.0)).await;
    term.release().await.unwrap();
    assert_eq!(timeout(seconds(0.1), doing).await.unwrap().unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn leadership_for_tests_lasts_as_long_as_told() {
    let leadership = Leadership::lasting(seconds(1.0));
    assert!(leadership.is_certain());
    advance(seconds(1.0)).await;
    assert!(!leadership.clone().is_certain());
}
