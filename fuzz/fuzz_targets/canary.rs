//! A spec is a plan or a sentence that says what to write.
#![no_main]

use jiff::SignedDuration;
use libfuzzer_sys::fuzz_target;
use serin::api::{CanarySpec, Defaults, plan};

fuzz_target!(|text: &[u8]| {
    let Ok(spec) = serde_json::from_slice::<CanarySpec>(text) else { return };
    let defaults = Defaults { drain_delay: SignedDuration::from_secs(5), route_grace: SignedDuration::from_secs(5) };
    match plan(&spec, &defaults) {
        Ok(plan) => assert!(plan.threshold > 0 && plan.inconclusive_limit > 0 && plan.interval.is_positive()),
        Err(invalid) => assert!(invalid.to_string().contains(' '), "{invalid}"),
    }
});
