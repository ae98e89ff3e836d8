//! One pass: look, ask, decide, record, act, tell.
//!
//! Invariant: record, then act. Every object is rendered from the recorded state and from what was found, so a crash or
//! a second leader can repeat work, but cannot apply what was never recorded.

use super::apply::{Intent, is_retreat};
use super::context::{Context, canary_key};
use super::error::Error;
use super::observe::{self, Found};
use super::rollout::Rollout;
use super::{alerts, commit, configs, contest, orders, tell};
use crate::api::{self, Canary, InvalidSpec};
use crate::domain::{
    Answers, CanaryPods, Decision, Farewell, Phase, Plan, Questions, State, Verdict, World, decide, questions,
};
use futures::future::{Either, select};
use jiff::Timestamp;
use kube::core::DeserializeGuard;
use kube::runtime::controller::Action;
use kube::{Resource, ResourceExt};
use serde_json::Value;
use std::mem::discriminant;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OnceCell, SemaphorePermit};
use tokio::time::timeout;

/// How often a pass that waits for answers looks around by itself: time alone can be a reason to go back.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_mins(1);

/// How often a decision is taken again because somebody edited the Canary while it was being recorded.
const ATTEMPTS: usize = 3;

/// One pass over one Canary; answers when the next one is due if nothing changes before.
///
/// # Errors
/// When the API server says no, or nothing. What was recorded stays, and the next pass goes on from there.
pub async fn reconcile(guard: Arc<DeserializeGuard<Canary>>, context: Arc<Context>) -> Result<Action, Error> {
    let slot = context.slot().await;
    let canary = match &guard.0 {
        Ok(canary) => context.newest(canary)?,
        Err(broken) => return Ok(pass_over(&context, &broken.error, &*guard)),
    };
    let (rollout, plan) = match understand(&context, &canary) {
        Ok(understood) => understood,
        Err(invalid) => return refuse(&context, &canary, "InvalidSpec", &invalid.to_string()).await,
    };
    if canary.metadata.deletion_timestamp.is_some() && !canary.finalizers().iter().any(|name| name == commit::FINALIZER)
    {
        return Ok(Action::await_change());
    }
    if let Some(taken) = contest::taken(&context, &rollout, &canary) {
        return give_way(&context, &rollout, &canary, &taken).await;
    }
    let now = context.clock.now();
    let state = match api::state(canary.status.as_ref(), now) {
        Ok(state) => state,
        Err(_) if canary.metadata.deletion_timestamp.is_some() => State::kept(now),
        Err(invalid) => return refuse(&context, &canary, "InvalidStatus", &invalid.to_string()).await,
    };
    let pass = Pass { context: &context, rollout: &rollout, plan: &plan, slot };
    let canary = match canary.metadata.deletion_timestamp {
        None => commit::finalizer(&context, &rollout, &canary, true).await?,
        Some(_) => canary,
    };
    Box::pin(pass.run(canary, &state)).await
}

fn understand(context: &Context, canary: &Canary) -> Result<(Rollout, Plan), InvalidSpec> {
    let rollout = Rollout::new(context, canary)?;
    let plan = api::plan(&canary.spec, &context.defaults());
    let plan = match plan.and_then(|plan| references(context, canary).map(|()| plan)) {
        // A deletion must not wait for an edit; handing the app back needs nothing that can be wrong here.
        Err(_) if canary.metadata.deletion_timestamp.is_some() => api::farewell(&context.defaults()),
        plan => plan?,
    };
    let primary = context.cache.get(&rollout.primary());
    let pauses = primary.is_some_and(|primary| rollout.workload.pauses(&primary));
    if pauses && plan.selective && canary.metadata.deletion_timestamp.is_none() {
        return Err(InvalidSpec::Other(
            "spec.analysis.match: the primary may lose all its pods while it is updated, and with match the other requests \
             stay on it; write stepWeights instead, or let it keep some (updateStrategy: maxSurge)"
                .to_owned(),
        ));
    }
    Ok((rollout, if pauses { plan.vacating_primary() } else { plan }))
}

/// Whether everything that the spec refers to may be referred to.
fn references(context: &Context, canary: &Canary) -> Result<(), InvalidSpec> {
    let from = canary.namespace().unwrap_or_default();
    let metrics = canary.spec.analysis.iter().flat_map(|analysis| &analysis.metrics);
    metrics.into_iter().try_for_each(|metric| observe::may_ask(context, &from, metric))?;
    alerts::may_tell(context, canary)
}

/// What stays the same throughout a pass.
struct Pass<'a> {
    context: &'a Context,
    rollout: &'a Rollout,
    plan: &'a Plan,
    slot: Option<SemaphorePermit<'a>>,
}

impl Pass<'_> {
    async fn run(mut self, canary: Canary, state: &State) -> Result<Action, Error> {
        let Self { context, rollout, plan, .. } = self;
        let found = observe::look(context, rollout);
        let deleted = canary.metadata.deletion_timestamp.is_some();
        if let (Err(unusable), false) = (observe::usable(rollout, &found), deleted) {
            return refuse(context, &canary, "InvalidTarget", &unusable.to_string()).await;
        }
        let seen = observe::world(context, rollout, &found, &canary);
        let due = questions(plan, state, &seen);
        // Where nobody is asked no time passes, and one look is enough.
        let one_look = due.is_empty() && found.version.as_ref().is_none_or(|version| version.incomplete.is_none());
        let asked = self.ask(canary, state, due);
        let target = found.target.clone();
        let read = pin!(configs::read(context, rollout, target.as_ref()));
        // What could not be read holds the rollout up, and nothing else: a breach does not wait for it.
        let (answers, read) = match select(pin!(asked), read).await {
            Either::Right((read, asked)) => (asked.await, read),
            Either::Left((answers, read)) => match &answers {
                Ok((said, _)) if is_breach(said) => (answers, Ok(())),
                Ok(_) | Err(_) => (answers, read.await),
            },
        };
        let (answers, canary) = answers?;
        let read_version = canary.resource_version();
        let looked = one_look.then_some((found, seen));
        let (found, canary, next) = Box::pin(self.decide(canary, state, &answers, target.as_ref(), looked)).await?;
        let now = context.clock.now();
        let newest = OnceCell::new_with((canary.resource_version() != read_version).then_some(()));
        let intent = Intent { context, rollout, canary: &canary, plan, state: &next.state, found: &found, now, newest };
        let acted = intent.carry_out().await;
        let recorded = commit::versions(context, rollout, &next.state, &found).await;
        tell::tell(context, rollout, &canary, &next.notes, &answers).await;
        acted?;
        orders::clear(context, rollout, &canary, &next.state).await?;
        recorded?;
        match read {
            // The next check is due all the same, and a deletion waits for nothing.
            Err(source) if !deleted => {
                let due = next.wake.map(|at| until(at, context.clock.now()));
                Err(Error::Unread { source: Box::new(source), due })
            }
            Err(_) | Ok(()) => self.finish(&canary, &next, &found).await,
        }
    }

    /// Asks what is due. Who is asked may take long: the place in the queue is left to others meanwhile, and what happens in
    /// the cluster does not wait for answers. Answers with the Canary as it is then.
    async fn ask(&mut self, canary: Canary, state: &State, asked: Questions) -> Result<(Answers, Canary), Error> {
        let Self { context, rollout, plan, .. } = *self;
        let answers = observe::ask(context, rollout, &canary, plan, &asked);
        if asked.hooks.is_empty() {
            return Ok((answers.await, canary));
        }
        self.slot = None;
        let answers = tokio::select! {
            biased;
            () = self.moves_on(&canary, state, &asked) => Answers::default(),
            () = context.news.stopped() => Answers::default(),
            answers = answers => answers,
        };
        self.slot = context.slot().await;
        let superseded = || Error::Supersede(rollout.key.to_string());
        let now = context.watched(&canary).ok_or_else(superseded)?;
        if Self::is_same(&canary, &now, state) { Ok((answers, now)) } else { Err(superseded()) }
    }

    /// Whether nothing but a Canary's metadata has changed since it was read.
    fn is_same(canary: &Canary, now: &Canary, state: &State) -> bool {
        let untouched = now.status.is_none()
            || api::state(now.status.as_ref(), Timestamp::UNIX_EPOCH).is_ok_and(|recorded| recorded == *state);
        untouched && now.spec == canary.spec && now.uid() == canary.uid()
    }

    /// Returns when there is something to do whatever is answered: traffic that has to go, an order, another version,
    /// another spec; or something else to ask.
    async fn moves_on(&self, canary: &Canary, state: &State, asked: &Questions) {
        let Self { context, rollout, plan, .. } = *self;
        let mut news = context.news.of(&rollout.key.namespace, &rollout.key.name);
        loop {
            let Some(now) = context.watched(canary) else { return };
            if now.spec != canary.spec {
                return;
            }
            let found = observe::look(context, rollout);
            let seen = observe::world(context, rollout, &found, &now);
            let next = decide(plan, state, &seen, &Answers::default());
            let due = questions(plan, state, &seen);
            let more = (due.metrics && !asked.metrics) || !due.hooks.is_subset(&asked.hooks);
            if more || moves(state, &next.state) {
                return;
            }
            let due = next.wake.map_or(LONGEST_LOOK, |at| until(at, seen.now).clamp(SHORTEST_LOOK, LONGEST_LOOK));
            // That nothing was told within this time is no reason not to look.
            let _ = timeout(due, news.changed()).await;
        }
    }

    /// Decides and records. When somebody edits the Canary in between, the decision is taken again on the edited one.
    /// `asked` is the target that the answers are about, `looked` what was seen a moment ago.
    async fn decide(
        &self,
        mut canary: Canary,
        state: &State,
        answers: &Answers,
        asked: Option<&Value>,
        mut looked: Option<(Found, World)>,
    ) -> Result<(Found, Canary, Decision), Error> {
        let Self { context, rollout, plan, .. } = *self;
        for _ in 0..ATTEMPTS {
            let (found, seen) = looked.take().unwrap_or_else(|| {
                let found = observe::look(context, rollout);
                let seen = observe::world(context, rollout, &found, &canary);
                (found, seen)
            });
            let next = decide(plan, state, &seen, answers);
            if promotes(state, &next.state) && !answers.is_empty() {
                self.still_asked(asked).await?;
            }
            // Traffic that must go waits for nothing, not even for a record; nor does it when it is tried again.
            let retreats = next.state.weight() < state.weight() || is_retreat(rollout, plan, &next.state, &found);
            if !retreats {
                commit::versions(context, rollout, &next.state, &found).await?;
            }
            let outcome = answers.outcome.as_ref();
            let status =
                api::record(canary.status.as_ref(), plan, &next, outcome, canary.metadata.generation, seen.now);
            match commit::status(context, &canary, status).await {
                Ok(canary) => return Ok((found, canary, next)),
                Err(error) if error.is_conflict() => canary = self.edited(&canary, state).await?,
                Err(error) => return Err(error),
            }
        }
        Err(Error::Supersede(rollout.key.to_string()))
    }

    /// Whether the target still is what the answers are about: watches may be behind, or the whole process may have stood
    /// still, and Prometheus answers for the pods that there are.
    async fn still_asked(&self, asked: Option<&Value>) -> Result<(), Error> {
        let key = self.rollout.target();
        let now = self.context.look_up(&key).await?.ok_or_else(|| Error::Lag(key.to_string()))?;
        let identity = |target: &Value| (target["metadata"]["uid"].clone(), target["metadata"]["generation"].clone());
        let same = asked.is_some_and(|asked| identity(asked) == identity(&now));
        if same { Ok(()) } else { Err(Error::Supersede(key.to_string())) }
    }

    /// The Canary as it is now, if nothing but its metadata has changed since it was read.
    async fn edited(&self, canary: &Canary, state: &State) -> Result<Canary, Error> {
        let key = &self.rollout.key;
        let superseded = || Error::Supersede(key.to_string());
        let now = self.context.read(key).await?.ok_or_else(superseded)?;
        let now: Canary =
            serde_json::from_value(now).map_err(|source| Error::Decode { object: key.to_string(), source })?;
        if Self::is_same(canary, &now, state) { Ok(now) } else { Err(superseded()) }
    }

    /// What is left to do when nothing is left to wait for.
    async fn finish(&self, canary: &Canary, next: &Decision, found: &Found) -> Result<Action, Error> {
        let Self { context, rollout, .. } = *self;
        if let Phase::Terminating { stage: Farewell::Released | Farewell::Kept, .. } = next.state.phase {
            commit::finalizer(context, rollout, canary, false).await?;
            return Ok(Action::await_change());
        }
        commit::copies(context, rollout, &next.state, found).await?;
        if next.state.canary == CanaryPods::Down {
            commit::collect(context, rollout, &next.state).await?;
        }
        Ok(next.wake.map_or_else(Action::await_change, |at| Action::requeue(until(at, context.clock.now()))))
    }
}

/// Whether a decision changes what is rendered, or is about something else than what was asked about. What else a state
/// notes can wait.
fn moves(state: &State, next: &State) -> bool {
    let version = |state: &State| state.target.as_ref().map(|target| target.revision.clone());
    next.weight() != state.weight()
        || discriminant(&next.phase) != discriminant(&state.phase)
        || discriminant(&next.canary) != discriminant(&state.canary)
        || next.primary_revision() != state.primary_revision()
        || version(next) != version(state)
        || next.command != state.command
}

/// Whether a decision gives the analysed version to the primary.
fn promotes(state: &State, next: &State) -> bool {
    matches!((&state.phase, &next.phase), (Phase::Progressing(_), Phase::Promoting(_)))
}

/// Whether the metrics say that the traffic has to go.
fn is_breach(answers: &Answers) -> bool {
    answers.outcome.as_ref().is_some_and(|outcome| outcome.verdict() == Verdict::Fail)
}

/// Never in the past, and never busy.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(1))
}

/// Says in the status what is wrong with a Canary; its traffic stays as it is.
async fn refuse(context: &Context, canary: &Canary, reason: &'static str, why: &str) -> Result<Action, Error> {
    let key = canary_key(canary);
    let why = why.replace("{name}", &key.name);
    let status = api::refused(canary.status.as_ref(), reason, &why, canary.metadata.generation, context.clock.now());
    if canary.status.as_ref() != Some(&status) {
        let canary = commit::status(context, canary, status).await?;
        tracing::warn!(reason, "{}", tell::shortened(&why));
        tell::publish(context, &canary, true, reason.to_owned(), &why).await;
    }
    Ok(Action::await_change())
}

/// Says in the status whose the app is, and touches nothing else. A deletion hands back nothing either.
async fn give_way(context: &Context, rollout: &Rollout, canary: &Canary, taken: &str) -> Result<Action, Error> {
    if canary.metadata.deletion_timestamp.is_none() {
        return refuse(context, canary, "TargetTaken", taken).await;
    }
    commit::finalizer(context, rollout, canary, false).await?;
    Ok(Action::await_change())
}

/// The API server's schema keeps such a Canary out; an older CRD may not.
fn pass_over(context: &Context, why: &str, canary: &impl Resource<DynamicType = ()>) -> Action {
    let key = canary_key(canary);
    tracing::warn!(canary = %key, "the Canary cannot be read: {why}; compare it with kubectl explain canary.spec");
    context.succeeded(&key);
    Action::await_change()
}
