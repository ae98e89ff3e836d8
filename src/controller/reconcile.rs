//! One pass: look, ask, decide, record, act, tell.
//!
//! Invariant: record, then act. Every object is rendered from the recorded state and from what was found, so a crash or
//! a second leader can repeat work, but cannot apply what was never recorded. And traffic that has to go waits for nobody:
//! no answer, no Secret, no turn, and no other write than that which records it.

use super::apply::{Intent, is_behind, is_retreat};
use super::cache::{self, Key, identity};
use super::claims::{Claim, NamespacedName};
use super::context::{Context, canary_key, key_of};
use super::error::Error;
use super::lanes::Lane;
use super::observe::{self, Found};
use super::rollout::Rollout;
use super::slots::Slot;
use super::{alerts, commit, configs, contest, orders, tell, verify};
use crate::api::{self, Canary, InvalidSpec};
use crate::domain::{
    Answers, CanaryPods, Decision, Farewell, Phase, Plan, Questions, State, Weight, World, decide, questions,
};
use crate::telemetry::chain;
use crate::workload;
use futures::future::{Either, select};
use jiff::Timestamp;
use kube::ResourceExt;
use std::mem::discriminant;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How often a pass that waits for answers looks around by itself: time alone can be a reason to go back.
const SHORTEST_LOOK: Duration = Duration::from_secs(1);
const LONGEST_LOOK: Duration = Duration::from_mins(1);

/// How often a decision is taken again because somebody edited the Canary while it was being recorded.
const ATTEMPTS: usize = 3;

/// One pass over one Canary; answers after how long the next one is due if nothing changes before.
///
/// # Errors
/// When the API server says no, or nothing. What was recorded stays, and the next pass goes on from there.
pub async fn reconcile(name: &NamespacedName, context: &Context) -> Result<Option<Duration>, Error> {
    // Thousands may wait for something at the same time: what each holds meanwhile shall be small, so every part of a pass
    // has room of its own, and has it only while it is under way.
    match Box::pin(one(name, context, Place::Unknown)).await {
        Err(Error::Crowd { serves, .. }) => Box::pin(in_turn(name, context, serves)).await,
        outcome => outcome,
    }
}

/// What a pass knows of its place among those that write.
enum Place<'a> {
    /// Nothing: there may be one.
    Unknown,
    /// It is waited for. Who waits must not ask meanwhile, and then wait for another one: the one that comes would be nobody's.
    Awaited,
    /// It has one.
    Held(Slot<'a>),
}

/// Waits for a place with nothing in hand but a name. Whenever something changes or is due it is looked whether traffic has
/// to go, which needs no place, or whether something is to be asked, for which a pass leaves the line.
async fn in_turn(name: &NamespacedName, context: &Context, serves: bool) -> Result<Option<Duration>, Error> {
    let mut news = context.news.of(&name.namespace, &name.name);
    let mut turn = pin!(context.slots.wait(serves));
    // What changed before it was listened to is looked at first.
    let mut look = Duration::ZERO;
    loop {
        let place = tokio::select! {
            biased;
            slot = &mut turn => Place::Held(slot),
            () = context.news.stopped() => return Err(Error::Supersede(key_of(name).to_string())),
            _ = timeout(look, news.changed()) => Place::Awaited,
        };
        match Box::pin(one(name, context, place)).await {
            Err(Error::Crowd { asks: true, .. }) => return Ok(Some(Duration::ZERO)),
            Err(Error::Crowd { look: next, .. }) => look = next,
            outcome => return outcome,
        }
    }
}

async fn one(name: &NamespacedName, context: &Context, place: Place<'_>) -> Result<Option<Duration>, Error> {
    let key = key_of(name);
    let canary = match context.canary(&key) {
        Some(Ok(canary)) => Box::new(canary),
        Some(Err(broken)) => return Ok(pass_over(context, &key, &broken)),
        None => return Ok(None),
    };
    let serves = canary.status.as_ref().is_some_and(|status| status.canary_weight > 0);
    let lane = if serves { Lane::Retreat } else { Lane::Work };
    Box::pin(context.complete(lane, &Claim::of(&canary))).await?;
    let understood = Rollout::new(context, &canary).and_then(|rollout| {
        let found = observe::look(context, &rollout);
        Ok((plan(context, &canary, &rollout, &found)?, rollout, found))
    });
    let (plan, rollout, found) = match understood {
        Ok(understood) => understood,
        Err(invalid) => return Box::pin(refuse(context, &canary, "InvalidSpec", &invalid.to_string())).await,
    };
    if canary.metadata.deletion_timestamp.is_some() && !commit::is_held(&canary) {
        return Ok(None);
    }
    if let Some(taken) = contest::taken(context, &rollout, &canary) {
        return Box::pin(give_way(context, &rollout, &canary, &taken)).await;
    }
    let now = context.clock.now();
    let state = match api::state(canary.status.as_ref(), now) {
        Ok(state) => state,
        Err(_) if canary.metadata.deletion_timestamp.is_some() => State::kept(now),
        Err(invalid) => return Box::pin(refuse(context, &canary, "InvalidStatus", &invalid.to_string())).await,
    };
    let pass = Pass { context, rollout: &rollout, plan: &plan };
    Box::pin(pass.run(canary, &state, found, place)).await
}

/// What a spec asks for.
fn plan(context: &Context, canary: &Canary, rollout: &Rollout, found: &Found) -> Result<Plan, InvalidSpec> {
    let plan = api::plan(&canary.spec, &context.defaults());
    let plan = match plan.and_then(|plan| references(context, canary).map(|()| plan)) {
        // A deletion must not wait for an edit; handing the app back needs nothing that can be wrong here.
        Err(_) if canary.metadata.deletion_timestamp.is_some() => api::farewell(&context.defaults()),
        plan => plan?,
    };
    let pauses = found.primary.as_ref().is_some_and(|primary| rollout.workload.pauses(primary));
    if pauses && plan.selective && canary.metadata.deletion_timestamp.is_none() {
        return Err(InvalidSpec::Other(
            "spec.analysis.match: the primary may lose all its pods while it is updated, and with match the other requests \
             stay on it; write stepWeights instead, or let it keep some (updateStrategy: maxSurge)"
                .to_owned(),
        ));
    }
    Ok(if pauses { plan.vacating_primary() } else { plan })
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
}

/// Which object a target is, and of which generation; nothing without a target.
type Identity = Option<cache::Identity>;

/// What is to be found out before a pass can decide.
struct Due {
    asked: Questions,
    /// Secrets of the version.
    unread: Vec<Key>,
    /// The target that is asked about.
    about: Identity,
    /// The route does not show yet that traffic was taken back.
    retreat: bool,
}

/// What is known when a pass decides.
struct Known<'a> {
    answers: Answers,
    /// Whether the version's Secrets could be read; what could not holds the rollout up, and nothing else.
    read: Result<(), Error>,
    /// The Canary as it is then.
    canary: Box<Canary>,
    /// What was seen, if nothing was waited for since.
    found: Option<Found>,
    /// The right to take its time; a pass that takes traffic back has none, and does not need it.
    _slot: Option<Slot<'a>>,
}

/// What is done.
struct Done {
    found: Found,
    /// As it was recorded.
    canary: Box<Canary>,
    next: Decision,
    /// Traffic went back before anything else was done.
    retreats: bool,
    /// The Canary was written after the objects were looked at, so nobody had recorded anything newer then.
    is_newest: bool,
}

impl<'a> Pass<'a> {
    async fn run(
        self,
        canary: Box<Canary>,
        state: &State,
        found: Found,
        place: Place<'a>,
    ) -> Result<Option<Duration>, Error> {
        let Self { context, rollout, plan } = self;
        let deleted = canary.metadata.deletion_timestamp.is_some();
        let mut due = match self.due(&canary, state, &found) {
            Ok(due) => due,
            Err(unusable) => return Box::pin(refuse(context, &canary, "InvalidTarget", &unusable.to_string())).await,
        };
        let about = due.about.take();
        let stuck = due.retreat && Box::pin(self.catch_up(&canary, state, &found)).await?;
        let found = if due.retreat {
            // The interval begins anew with the weight that was written just now.
            due.asked = self.asked(&canary, state, &observe::look(context, rollout));
            None
        } else {
            Some(found)
        };
        let known = Box::pin(self.learn(canary, state, due, found, place, stuck)).await?;
        let Known { answers, read, canary, found, _slot } = known;
        let Done { found, canary, next, retreats, is_newest } =
            Box::pin(self.decide(canary, state, found, &answers, &about)).await?;
        let now = context.clock.now();
        let newest = OnceCell::new_with(is_newest.then_some(()));
        let intent = Intent { context, rollout, canary: &canary, plan, state: &next.state, found: &found, now, newest };
        let acted = Box::pin(intent.carry_out()).await;
        // A retreat that failed is tried again before anything else is written.
        let recorded = if retreats && acted.is_ok() {
            Box::pin(commit::versions(context, rollout, &next.state, &found)).await
        } else {
            Ok(())
        };
        Box::pin(tell::tell(context, rollout, &canary, &next.notes, &answers)).await;
        acted?;
        Box::pin(orders::clear(context, rollout, &canary, &next.state)).await?;
        recorded?;
        match read {
            // The next check is due all the same, and a deletion waits for nothing.
            Err(source) if !deleted => {
                let due = next.wake.map(|at| until(at, context.clock.now()));
                Err(Error::Unread { source: Box::new(source), due })
            }
            Err(_) | Ok(()) => Box::pin(self.finish(&canary, &next, &found)).await,
        }
    }

    fn due(&self, canary: &Canary, state: &State, found: &Found) -> Result<Due, workload::Error> {
        let Self { context, rollout, plan } = *self;
        if canary.metadata.deletion_timestamp.is_none() {
            observe::usable(rollout, found)?;
        }
        Ok(Due {
            asked: self.asked(canary, state, found),
            unread: configs::unread(context, rollout, found.target.as_deref()),
            about: found.target.as_deref().map(identity),
            retreat: is_retreat(plan, state, found),
        })
    }

    fn asked(&self, canary: &Canary, state: &State, found: &Found) -> Questions {
        questions(self.plan, state, &observe::world(self.context, self.rollout, found, canary))
    }

    /// Carries a retreat out that is on record, before anything is asked: whatever the answers are, they are not waited for.
    /// Answers whether it is still to be done, which is tried again with everything else.
    async fn catch_up(&self, canary: &Canary, state: &State, found: &Found) -> Result<bool, Error> {
        let Self { context, rollout, plan } = *self;
        let (now, newest) = (context.clock.now(), OnceCell::new());
        match (Intent { context, rollout, canary, plan, state, found, now, newest }).retreat().await {
            Ok(()) => Ok(false),
            Err(error) if error.is_conflict() => Err(error),
            Err(error) => {
                tracing::warn!(error = chain(&error), "the traffic is still to be taken back");
                Ok(true)
            }
        }
    }

    /// Finds out what is due, and waits for its turn; neither holds up traffic that has to go. Who is asked may take long:
    /// others have their turn meanwhile.
    async fn learn(
        &self,
        canary: Box<Canary>,
        state: &State,
        due: Due,
        found: Option<Found>,
        place: Place<'a>,
        stuck: bool,
    ) -> Result<Known<'a>, Error> {
        if !due.asked.is_empty() {
            if matches!(place, Place::Awaited) {
                self.line_up(&canary, state, &Answers::default(), true)?;
            }
            drop((found, place));
            let (answers, read) = self.find_out(&canary, state, due, stuck).await;
            return self.take_turn(&canary, state, answers, read).await;
        }
        // What was seen before something was read is old then.
        let found = found.filter(|_| due.unread.is_empty());
        let (answers, read) = self.find_out(&canary, state, due, stuck).await;
        let slot = if let Place::Held(slot) = place { Some(slot) } else { self.context.slots.find(serves(state)) };
        if slot.is_none() {
            self.line_up(&canary, state, &answers, false)?;
        }
        Ok(Known { answers, read, canary, found, _slot: slot })
    }

    /// Ends a pass that has to wait for a place, so that it waits with its name alone; traffic that has to go waits for none.
    fn line_up(&self, canary: &Canary, state: &State, answers: &Answers, asks: bool) -> Result<(), Error> {
        let look = self.looks_again(canary, state, answers);
        look.map_or(Ok(()), |look| Err(Error::Crowd { serves: serves(state), asks, look }))
    }

    /// Waits for a place with answers in hand, which nobody is to be asked for again.
    async fn take_turn(
        &self,
        canary: &Canary,
        state: &State,
        answers: Answers,
        read: Result<(), Error>,
    ) -> Result<Known<'a>, Error> {
        let Self { context, rollout, .. } = *self;
        let superseded = || Error::Supersede(rollout.key.to_string());
        let free = context.slots.find(serves(state));
        let slot = if free.is_some() {
            free
        } else {
            tokio::select! {
                biased;
                () = self.goes_back(canary, state, &answers) => None,
                () = context.news.stopped() => return Err(superseded()),
                slot = context.slots.wait(serves(state)) => Some(slot),
            }
        };
        let now = context.watched(&rollout.key).map(Box::new).ok_or_else(superseded)?;
        if !Self::is_same(canary, &now, state) {
            return Err(superseded());
        }
        Ok(Known { answers, read, canary: now, found: None, _slot: slot })
    }

    /// Asks and reads what is due, until it is all known or until there is something to do without it.
    async fn find_out(&self, canary: &Canary, state: &State, due: Due, stuck: bool) -> (Answers, Result<(), Error>) {
        let Self { context, rollout, plan } = *self;
        let Due { asked, unread, about: _, retreat: _ } = due;
        if asked.is_empty() && unread.is_empty() {
            return (Answers::default(), Ok(()));
        }
        let learnt = async {
            let answers = pin!(observe::ask(context, rollout, canary, plan, &asked));
            let read = pin!(configs::read(context, unread));
            match select(answers, read).await {
                Either::Right((read, answers)) => (answers.await, read),
                Either::Left((answers, read)) => {
                    let is_known = self.looks_again(canary, state, &answers).is_none();
                    let read = if is_known { Ok(()) } else { read.await };
                    (answers, read)
                }
            }
        };
        tokio::select! {
            biased;
            () = self.moves_on(canary, state, &asked, stuck) => (Answers::default(), Ok(())),
            () = context.news.stopped() => (Answers::default(), Ok(())),
            learnt = learnt => learnt,
        }
    }

    /// Whether nothing but a Canary's metadata has changed since it was read.
    fn is_same(canary: &Canary, now: &Canary, state: &State) -> bool {
        let untouched = now.status.is_none()
            || api::state(now.status.as_ref(), Timestamp::UNIX_EPOCH).is_ok_and(|recorded| recorded == *state);
        untouched && now.spec == canary.spec && now.uid() == canary.uid()
    }

    /// Returns when there is something to do whatever is answered: traffic that has to go, and, if anybody was asked, an order,
    /// another version, another spec; or something else to ask.
    async fn moves_on(&self, canary: &Canary, state: &State, asked: &Questions, stuck: bool) {
        self.look_until(canary, state, &Answers::default(), |seen, found, next| {
            let retreats = next.state.weight() < state.weight() || (!stuck && self.is_retreat(state, found, next));
            let due = questions(self.plan, state, seen);
            let more = (due.metrics && !asked.metrics) || !due.hooks.is_subset(&asked.hooks);
            retreats || (!asked.is_empty() && (more || moves(state, &next.state)))
        })
        .await;
    }

    /// Returns when traffic has to go, after these answers.
    async fn goes_back(&self, canary: &Canary, state: &State, answers: &Answers) {
        self.look_until(canary, state, answers, |_, found, next| self.is_retreat(state, found, next)).await;
    }

    /// Decides, and whenever something changes decides again, until it is `enough`; or until the Canary is another one.
    async fn look_until(
        &self,
        canary: &Canary,
        state: &State,
        answers: &Answers,
        enough: impl Fn(&World, &Found, &Decision) -> bool,
    ) {
        let Self { context, rollout, plan } = *self;
        let mut news = context.news.of(&rollout.key.namespace, &rollout.key.name);
        loop {
            let due = {
                let Some(now) = context.watched(&rollout.key) else { return };
                if now.spec != canary.spec {
                    return;
                }
                let found = observe::look(context, rollout);
                let seen = observe::world(context, rollout, &found, &now);
                let next = decide(plan, state, &seen, answers);
                if enough(&seen, &found, &next) {
                    return;
                }
                look_at(&next, seen.now)
            };
            // That nothing was told within this time is no reason not to look.
            let _ = timeout(due, news.changed()).await;
        }
    }

    /// After how long it is to be looked again whether traffic has to go; nothing when it has to, after these answers.
    fn looks_again(&self, canary: &Canary, state: &State, answers: &Answers) -> Option<Duration> {
        let Self { context, rollout, plan } = *self;
        let found = observe::look(context, rollout);
        let seen = observe::world(context, rollout, &found, canary);
        let next = decide(plan, state, &seen, answers);
        (!self.is_retreat(state, &found, &next)).then(|| look_at(&next, seen.now))
    }

    /// Whether a decision takes traffic back, or one that has done so is still to be carried out.
    fn is_retreat(&self, state: &State, found: &Found, next: &Decision) -> bool {
        next.state.weight() < state.weight() || is_retreat(self.plan, &next.state, found)
    }

    /// Decides and records. When somebody edits the Canary in between, the decision is taken again on the edited one. Traffic
    /// that must go waits for nothing but its own record. The answers are `about` one target.
    async fn decide(
        &self,
        mut canary: Box<Canary>,
        state: &State,
        mut found: Option<Found>,
        answers: &Answers,
        about: &Identity,
    ) -> Result<Done, Error> {
        let Self { context, rollout, plan } = *self;
        for _ in 0..ATTEMPTS {
            let read_version = canary.resource_version();
            let found = found.take().unwrap_or_else(|| observe::look(context, rollout));
            let seen = observe::world(context, rollout, &found, &canary);
            let next = decide(plan, state, &seen, answers);
            if promotes(state, &next.state) && !answers.is_empty() {
                verify::still_that_version(context, rollout, about.as_ref(), &found).await?;
            }
            let retreats = self.is_retreat(state, &found, &next);
            if !retreats {
                verify::before_recording(context, rollout, &canary, (state, &next.state), &found).await?;
                if !seen.deleted
                    && let Some(held) = commit::finalizer(context, rollout, &canary, true).await?
                {
                    canary = held;
                }
                commit::versions(context, rollout, &next.state, &found).await?;
            }
            let lane = if retreats { Lane::Retreat } else { Lane::Work };
            let outcome = answers.outcome.as_ref();
            let status =
                api::record(canary.status.as_ref(), plan, &next, outcome, canary.metadata.generation, seen.now);
            match commit::status(context, lane, &canary, status).await {
                Ok(canary) => {
                    if next.state.weight() < state.weight() && is_behind(plan, state, &found) {
                        // What was on record may be on the route, whatever the watch shows.
                        rollout.routes().into_iter().for_each(|key| context.cache.doubt(key));
                    }
                    let is_newest = canary.resource_version() != read_version;
                    return Ok(Done { found, canary, next, retreats, is_newest });
                }
                Err(error) if error.is_conflict() => canary = self.edited(lane, &canary, state).await?,
                Err(error) if retreats => return Err(Error::Retreat(Box::new(error))),
                Err(error) => return Err(error),
            }
        }
        Err(Error::Supersede(rollout.key.to_string()))
    }

    /// The Canary as it is now, if nothing but its metadata has changed since it was read. What it is instead is remembered, so
    /// that the next pass begins from that.
    async fn edited(&self, lane: Lane, canary: &Canary, state: &State) -> Result<Box<Canary>, Error> {
        let key = &self.rollout.key;
        let superseded = || Error::Supersede(key.to_string());
        let now = self.context.look_up(lane, key).await?.ok_or_else(superseded)?;
        let now: Box<Canary> =
            serde_json::from_value(now).map_err(|source| Error::Decode { object: key.to_string(), source })?;
        if Self::is_same(canary, &now, state) { Ok(now) } else { Err(superseded()) }
    }

    /// What is left to do when nothing is left to wait for.
    async fn finish(&self, canary: &Canary, next: &Decision, found: &Found) -> Result<Option<Duration>, Error> {
        let Self { context, rollout, .. } = *self;
        if let Phase::Terminating { stage: Farewell::Released | Farewell::Kept, .. } = next.state.phase {
            verify::before_letting_go(context, rollout, found).await?;
            rollout.routes().iter().for_each(|key| context.cache.forget(key));
            commit::finalizer(context, rollout, canary, false).await?;
            return Ok(None);
        }
        commit::copies(context, rollout, &next.state, found).await?;
        if next.state.canary == CanaryPods::Down {
            commit::collect(context, rollout, canary, &next.state).await?;
        }
        Ok(next.wake.map(|at| until(at, context.clock.now())))
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

/// Whether the new version has traffic.
fn serves(state: &State) -> bool {
    state.weight() > Weight::ZERO
}

/// Whether a decision gives the analysed version to the primary.
fn promotes(state: &State, next: &State) -> bool {
    matches!((&state.phase, &next.phase), (Phase::Progressing(_), Phase::Promoting(_)))
}

/// When a pass that waits looks around by itself.
fn look_at(next: &Decision, now: Timestamp) -> Duration {
    next.wake.map_or(LONGEST_LOOK, |at| until(at, now).clamp(SHORTEST_LOOK, LONGEST_LOOK))
}

/// Never in the past, and never busy.
fn until(at: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(at.duration_since(now)).unwrap_or_default().max(Duration::from_millis(1))
}

/// Says in the status what is wrong with a Canary; its traffic stays as it is.
async fn refuse(
    context: &Context,
    canary: &Canary,
    reason: &'static str,
    why: &str,
) -> Result<Option<Duration>, Error> {
    let key = canary_key(canary);
    let why = why.replace("{name}", &key.name);
    let status = api::refused(canary.status.as_ref(), reason, &why, canary.metadata.generation, context.clock.now());
    if canary.status.as_ref() != Some(&status) {
        let canary = commit::status(context, Lane::Work, canary, status).await?;
        tracing::warn!(reason, "{}", tell::shortened(&why));
        tell::publish(context, &canary, true, reason.to_owned(), &why).await;
    }
    Ok(None)
}

/// Says in the status whose the app is, and touches nothing else. A deletion hands back nothing either.
async fn give_way(
    context: &Context,
    rollout: &Rollout,
    canary: &Canary,
    taken: &str,
) -> Result<Option<Duration>, Error> {
    if canary.metadata.deletion_timestamp.is_none() {
        return refuse(context, canary, "TargetTaken", taken).await;
    }
    verify::before_giving_way(context, rollout).await?;
    commit::finalizer(context, rollout, canary, false).await?;
    Ok(None)
}

/// The API server's schema keeps such a Canary out; an older CRD may not.
fn pass_over(context: &Context, key: &Key, why: &serde_json::Error) -> Option<Duration> {
    tracing::warn!(canary = %key, "the Canary cannot be read: {why}; compare it with kubectl explain canary.spec");
    context.succeeded(key);
    None
}
