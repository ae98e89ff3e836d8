//! What strangers may send to Serin, as bytes: one function for each kind, which panics when a promise is broken.
//!
//! Invariant: a function here is total and quick for all bytes. `make fuzz` looks for bytes for which it is not; those
//! that it found, and the seeds it began with, are replayed by `tests/replay.rs` like any other test.

mod answers;
mod canary;
mod pass;
mod status;
mod template;

pub use answers::{prometheus_answer, webhook_answer};
pub use canary::canary_json;
pub use pass::canary_pass;
pub use status::status_json;
pub use template::query_template;

/// The body of a target: any bytes, and a panic when a promise is broken.
pub type Target = fn(&[u8]);

/// Every target by its name, which is that of its directory of seeds.
pub const TARGETS: [(&str, Target); 6] = [
    ("prometheus_answer", prometheus_answer),
    ("query_template", query_template),
    ("webhook_answer", webhook_answer),
    ("canary_json", canary_json),
    ("status_json", status_json),
    ("canary_pass", canary_pass),
];

/// The parts of an input, with a line feed after each but the last: a text editor can write one.
fn parts<const COUNT: usize>(bytes: &[u8]) -> [&[u8]; COUNT] {
    let mut parts = bytes.splitn(COUNT, |byte| *byte == b'\n');
    [(); COUNT].map(|()| parts.next().unwrap_or_default())
}
