//! One round of questions: metrics and webhooks, all at once.
//!
//! Invariant: nothing is waited for that cannot change what is to be done: an answer that takes the version back ends the
//! round, and what has not been answered by then is missing. A kind of webhooks is answered when every one of it is, or
//! when one of it decides for all.

use super::ask::metrics;
use crate::api::{Canary, Webhook};
use crate::controller::context::Context;
use crate::controller::rollout::Rollout;
use crate::controller::webhooks;
use crate::domain::{Answers, Hook, Outcome, Plan, Questions, Reply, Verdict};
use futures::StreamExt;
use futures::future::{BoxFuture, FutureExt};
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long the end of one rollout may hold up the next one.
const FAREWELL: Duration = Duration::from_secs(10);

/// Asks what is due.
pub(in crate::controller) async fn ask(
    context: &Context,
    rollout: &Rollout,
    canary: &Canary,
    plan: &Plan,
    asked: &Questions,
) -> Answers {
    let mut round = Round::new(context, rollout, canary, plan, asked);
    round.begin();
    while !round.is_over() {
        match round.arriving.next().await {
            Some(arrived) => round.take(arrived),
            None => break,
        }
    }
    round.answers()
}

/// Something that is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Topic {
    Metrics,
    /// The webhook at this place among those that are asked.
    Webhook(usize),
}

enum Arrived {
    Outcome(Outcome),
    /// Nothing when it was given up, because this process is no longer sure that it leads.
    Answer(usize, Option<Result<(), String>>),
    /// An interval is over, and somebody has not answered yet: what may end the round is asked again.
    Interval,
}

struct Round<'a> {
    context: &'a Context,
    rollout: &'a Rollout,
    canary: &'a Canary,
    plan: &'a Plan,
    asked: &'a Questions,
    /// In the order of the spec.
    webhooks: Vec<(Hook, &'a Webhook)>,
    outcome: Option<Outcome>,
    replies: BTreeMap<usize, Reply>,
    open: BTreeSet<Topic>,
    /// How often what may end the round was asked again.
    again: u32,
    arriving: FuturesUnordered<BoxFuture<'a, Arrived>>,
}

impl<'a> Round<'a> {
    fn new(
        context: &'a Context,
        rollout: &'a Rollout,
        canary: &'a Canary,
        plan: &'a Plan,
        asked: &'a Questions,
    ) -> Self {
        let written = canary.spec.analysis.as_ref().map(|analysis| analysis.webhooks.as_slice()).unwrap_or_default();
        let due = |webhook: &'a Webhook| {
            let hook = webhook.when().hook()?;
            asked.hooks.contains(&hook).then_some((hook, webhook))
        };
        Self {
            context,
            rollout,
            canary,
            plan,
            asked,
            webhooks: written.iter().filter_map(due).collect(),
            outcome: None,
            replies: BTreeMap::new(),
            open: BTreeSet::new(),
            again: 0,
            arriving: FuturesUnordered::new(),
        }
    }

    fn begin(&mut self) {
        if self.asked.metrics {
            self.ask(Topic::Metrics);
        }
        for place in 0..self.webhooks.len() {
            self.ask(Topic::Webhook(place));
        }
        if !self.webhooks.is_empty() {
            self.wait_an_interval();
        }
    }

    fn ask(&mut self, topic: Topic) {
        if !self.open.insert(topic) {
            return;
        }
        let Self { context, rollout, canary, plan, again, .. } = *self;
        self.arriving.push(match topic {
            Topic::Metrics => {
                async move { Arrived::Outcome(metrics(context, rollout, canary, &plan.metrics).await) }.boxed()
            }
            Topic::Webhook(place) => {
                let (hook, webhook) = self.webhooks[place];
                let call = webhooks::call(canary, webhook, again);
                let patience = (hook == Hook::PostRollout && self.is_busy()).then_some(FAREWELL);
                async move {
                    let answer = context.caller.call(webhook, call);
                    let answer = async {
                        match patience {
                            None => answer.await,
                            Some(limit) => timeout(limit, answer).await.unwrap_or_else(|_| {
                                Err(format!("no answer within {limit:?}, and the next rollout does not wait for it"))
                            }),
                        }
                    };
                    // A webhook may start a test, or a person's telephone: a question is as much as a write.
                    Arrived::Answer(place, context.leadership.during(answer).await)
                }
                .boxed()
            }
        });
    }

    /// Whether anything else is asked than how the last rollout ended.
    fn is_busy(&self) -> bool {
        self.asked.metrics || self.asked.hooks.iter().any(|hook| *hook != Hook::PostRollout)
    }

    fn wait_an_interval(&self) {
        let interval = self.plan.interval.unsigned_abs();
        self.arriving.push(sleep(interval).map(|()| Arrived::Interval).boxed());
    }

    fn take(&mut self, arrived: Arrived) {
        match arrived {
            Arrived::Outcome(outcome) => {
                self.open.remove(&Topic::Metrics);
                self.outcome = Some(outcome);
            }
            Arrived::Answer(place, answer) => {
                self.open.remove(&Topic::Webhook(place));
                let name = self.webhooks[place].1.name.clone();
                self.replies.extend(answer.map(|answer| (place, Reply { name, answer })));
            }
            Arrived::Interval => {
                self.again += 1;
                if self.asked.metrics {
                    self.ask(Topic::Metrics);
                }
                for place in 0..self.webhooks.len() {
                    if self.webhooks[place].0 == Hook::Rollback {
                        self.ask(Topic::Webhook(place));
                    }
                }
                self.wait_an_interval();
            }
        }
    }

    fn is_over(&self) -> bool {
        self.open.is_empty() || self.is_to_be_taken_back()
    }

    /// Whether what was answered is enough to go back, so that nothing else needs to be waited for. A test that failed waits
    /// for the metrics, which belong to the same check and have a deadline.
    fn is_to_be_taken_back(&self) -> bool {
        let breach = self.outcome.as_ref().is_some_and(|outcome| outcome.verdict() == Verdict::Fail);
        let tested = !self.open.contains(&Topic::Metrics);
        let decided = |hook: Hook| self.of(hook).any(|(_, reply)| reply.is_some_and(|reply| decides(hook, reply)));
        breach || decided(Hook::Rollback) || (tested && [Hook::PreRollout, Hook::Rollout].into_iter().any(decided))
    }

    fn of(&self, hook: Hook) -> impl Iterator<Item = (usize, Option<&Reply>)> {
        let places = self.webhooks.iter().enumerate().filter(move |(_, (kind, _))| *kind == hook);
        places.map(|(place, _)| (place, self.replies.get(&place)))
    }

    /// What was answered, without kinds of which too little is known.
    fn answers(self) -> Answers {
        let answered = self.asked.hooks.iter().filter_map(|hook| {
            let replies: Vec<_> = self.of(*hook).map(|(_, reply)| reply).collect();
            let known: Vec<_> = replies.iter().copied().flatten().cloned().collect();
            let is_complete = known.len() == replies.len() || known.iter().any(|reply| decides(*hook, reply));
            (is_complete && !known.is_empty()).then_some((*hook, known))
        });
        Answers { hooks: answered.collect(), outcome: self.outcome.clone() }
    }
}

/// Whether one answer is that of all webhooks of its kind.
fn decides(hook: Hook, reply: &Reply) -> bool {
    match hook {
        Hook::Rollback => reply.answer.is_ok(),
        Hook::PostRollout => false,
        Hook::ConfirmRollout
        | Hook::PreRollout
        | Hook::Rollout
        | Hook::ConfirmTrafficIncrease
        | Hook::ConfirmPromotion => reply.answer.is_err(),
    }
}
