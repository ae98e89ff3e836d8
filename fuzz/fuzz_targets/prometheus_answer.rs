//! Whatever a provider answers is one finite number or a sentence, and a short one.
#![no_main]

use http::StatusCode;
use libfuzzer_sys::fuzz_target;
use serin::metrics::prometheus::parse;

/// More than the longest sentence around a shortened message.
const LONGEST: usize = 2_000;

fuzz_target!(|input: (u16, &[u8])| {
    let (status, body) = input;
    let Ok(status) = StatusCode::from_u16(status) else { return };
    match parse("http://prometheus:9090", status, body) {
        Ok(number) => assert!(number.is_finite()),
        Err(unknown) => assert!((1..LONGEST).contains(&unknown.to_string().len()), "{unknown}"),
    }
});
