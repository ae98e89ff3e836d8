//! One process from its start to its end: it stands by, it leads, and it gives the Lease back.
//!
//! Invariant: nothing is written before the Lease is ours, nothing is written after it is lost or given back, and it is
//! given back only when no pass runs any more. Watches begin at once: a standby whose caches are full leads from one
//! moment to the next, however many Canaries there are.

use super::alerts::Deliveries;
use super::clock::Clock;
use super::error::Error;
use super::lease::{Candidate, Lost, Term};
use super::settings::Settings;
use super::watch::run_by;
use crate::server::Readiness;
use crate::telemetry::{Metrics, chain};
use futures::FutureExt;
use kube::Client;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// Running passes may take this long after the wish to stop. With the limit below, the 3 s of the last alerts and the 2 s
/// of the last scrape, it stays under the 30 s after which Kubernetes kills a Pod.
const PASSES_END: Duration = Duration::from_secs(20);

/// The Lease is one write, rarely three.
const LEASE_RELEASED: Duration = Duration::from_secs(4);

/// Why a process ended that nobody had asked to. What still runs of it is to be left with it.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// It could not begin.
    #[error("the controller failed")]
    Begin(#[source] Error),
    /// Somebody else may lead.
    #[error("leadership was lost")]
    Keep(#[source] Lost),
    /// Its queues ended.
    #[error("the controller ended without being asked to")]
    GoOn,
}

/// Stands by until the Lease is ours, and leads for as long as it is and nobody wants a stop.
///
/// # Errors
/// When it ends without having been asked to.
pub async fn lead(
    clock: Clock,
    client: Client,
    settings: Settings,
    candidate: Candidate,
    metrics: Arc<Metrics>,
    readiness: Readiness,
    stop: impl Future<Output = ()> + Send + Sync + 'static,
) -> Result<(), Ended> {
    let stop = stop.shared();
    let leadership = candidate.leadership();
    let passes = run_by(clock, client, settings, leadership, Arc::clone(&metrics), readiness, stop.clone());
    let mut passes = pin!(passes);
    let standing_by = tokio::select! {
        term = candidate.lead() => Ok(term),
        result = &mut passes => Err(result.map_err(Ended::Begin)?),
    };
    match standing_by {
        Ok(mut term) => {
            tracing::info!("leading");
            metrics.leading(true);
            let end = tokio::select! {
                result = &mut passes => result.map(End::Finished).map_err(Ended::Begin),
                () = overdue(stop.clone()) => Ok(End::Overdue),
                lost = term.keep() => Err(Ended::Keep(lost)),
            };
            metrics.leading(false);
            match end? {
                End::Finished(last_alerts) => {
                    release(term).await;
                    // They tell what is on record, and nobody else would: that needs no Lease.
                    last_alerts.finish().await;
                }
                // A write may still be on its way, so the Lease is not given back but ends by itself.
                End::Overdue => {
                    tracing::warn!(seconds = PASSES_END.as_secs(), "passes did not end in time after the stop");
                }
            }
        }
        Err(no_alerts) => no_alerts.finish().await,
    }
    stop.now_or_never().ok_or(Ended::GoOn)
}

/// How leading came to a good end.
enum End {
    Finished(Deliveries),
    Overdue,
}

/// Resolves when a stop was asked for and the passes had their time.
async fn overdue(stop: impl Future<Output = ()>) {
    stop.await;
    sleep(PASSES_END).await;
}

/// Gives the Lease back. When that fails the next leader has to wait for its end, which is no reason to exit otherwise.
async fn release(term: Term) {
    match timeout(LEASE_RELEASED, term.release()).await {
        Ok(Ok(())) => tracing::info!("the Lease was released"),
        Ok(Err(error)) => tracing::warn!(error = chain(&error), "the Lease was not released and will end by itself"),
        Err(_) => tracing::warn!("the Lease was not released in time and will end by itself"),
    }
}
