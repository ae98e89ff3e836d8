//! A few seeds, as often as anything is tested; `make simulate` plays more, faster.

use serin_simulation::{Total, play, replay};

#[test]
fn nothing_goes_wrong_whatever_goes_wrong() {
    let mut total = Total::default();
    for seed in 0..12 {
        total.add(&play(seed));
    }
    assert_eq!(total.failed, [], "replay it with: make simulate SEED=…");
    assert!(total.rollouts > 12 && total.promoted > 0 && total.rolled_back > 0 && total.faults() > 50, "{total:?}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [3, 7] {
        let (one, other) = (replay(seed), replay(seed));
        assert!(one.trace.len() > 50, "{}", one.trace.len());
        assert_eq!(one.trace, other.trace);
        let quiet = play(seed);
        assert_eq!((quiet.requests, quiet.milliseconds, quiet.faults), (one.requests, one.milliseconds, one.faults));
    }
}
