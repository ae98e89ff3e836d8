//! Waiting with a deadline, aloud.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Often enough for intervals of a second, and seldom enough not to be a load.
const POLL: Duration = Duration::from_millis(150);

/// Asks until there is an answer; an error of the question ends the wait.
///
/// # Errors
/// When the question fails, or has no answer within the limit.
pub async fn wait_for<T>(what: &str, limit: Duration, question: impl AsyncFn() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    println!("  … {what}");
    loop {
        if let Some(answer) = question().await.with_context(|| format!("while waiting for: {what}"))? {
            println!("  ✓ {what} ({:.1} s)", started.elapsed().as_secs_f64());
            return Ok(answer);
        }
        if started.elapsed() >= limit {
            bail!("timed out after {} s waiting for: {what}", limit.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The usual question: whether something holds.
#[must_use]
pub fn once(holds: bool) -> Option<()> {
    holds.then_some(())
}
