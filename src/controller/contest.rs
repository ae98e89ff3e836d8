//! Two Canaries on one app: which of them has it, and what the other one is told.
//!
//! Invariant: of all Canaries that would change the same object, one at most does. Who has begun keeps the app, because
//! an app that changes hands in the middle of a rollout would get what nobody analysed; else the older one has it.

use super::claims::Claim;
use super::context::Context;
use super::rollout::Rollout;
use crate::api::Canary;
use crate::workload::autoscaler;

/// Why a Canary's app is another's, as a sentence; nothing when it may go on.
pub(super) fn taken(context: &Context, rollout: &Rollout, canary: &Canary) -> Option<String> {
    let own = Claim::of(canary);
    let rivals = context.cache.claims(&rollout.key.namespace).map(|claims| claims.rivals(&own)).unwrap_or_default();
    for (kind, key) in rollout.objects() {
        let Some(holder) = context.cache.holder(&key) else { continue };
        if holder.uid != rollout.uid {
            let rival = rivals.iter().find(|rival| rival.name() == holder.name);
            // Named by what the manifests share, which is the same before and after the holder has made anything.
            return Some(match rival.and_then(|rival| own.contested(rival)) {
                Some((kind, name)) => taken_by(kind, &name, &holder.name),
                None => left(&key.resource.kind, &key.name, &holder.name),
            });
        }
        let contested = (kind.as_str(), key.name);
        if rivals.iter().flat_map(Claim::objects).any(|object| object == contested) {
            return None;
        }
    }
    let before = rivals.iter().filter(|rival| rival.precedes(&own));
    let first = before.reduce(|first, rival| if rival.precedes(first) { rival } else { first })?;
    let (kind, name) = own.contested(first)?;
    Some(taken_by(kind, &name, first.name()))
}

fn taken_by(kind: &str, name: &str, holder: &str) -> String {
    let field = if autoscaler::by_kind(kind).is_some() { "autoscalerRef" } else { "targetRef or service.name" };
    format!(
        "{kind} {name} belongs to Canary {holder}, which had it first: give this one another {field}, \
         or delete one of the two. When {holder} is gone, this one takes over by itself"
    )
}

/// Its owner is not to be seen: the garbage collector is about to follow it, or another installation has it.
fn left(kind: &str, name: &str, holder: &str) -> String {
    format!(
        "{kind} {name} belongs to a Canary {holder} that is gone or another installation's. When the {kind} is gone, \
         too, this one takes over by itself"
    )
}
