//! Acting: every object is made to say what the recorded state says.
//!
//! Invariant: nothing here decides. A write carries the version that it was rendered from; when somebody else was
//! quicker, it is rendered again from what is there now, if the recorded state still is the newest.

use super::cache::{Key, identity};
use super::configs;
use super::context::Context;
use super::error::Error;
use super::lanes::Lane;
use super::observe::Found;
use super::rollout::{self, Rollout};
use super::verify::{still_newest, still_there};
use crate::api::Canary;
use crate::domain::{Farewell, Phase, Plan, Routing, State, Traffic, Weight};
use crate::object;
use crate::workload::configs::references;
use crate::workload::{self, Replicas, Selector, Wanted};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;
use tokio::time::timeout;

/// How often a write is tried against somebody who writes the same object all the time.
const ATTEMPTS: usize = 5;

/// How long a retreat waits for a word on what it begins from. Less traffic is safe whatever has come since; who knows better
/// puts it right.
const WORD: Duration = Duration::from_secs(1);

/// What is to be made true.
pub(super) struct Intent<'a> {
    pub(super) context: &'a Context,
    pub(super) rollout: &'a Rollout,
    /// As it was recorded.
    pub(super) canary: &'a Canary,
    pub(super) plan: &'a Plan,
    pub(super) state: &'a State,
    pub(super) found: &'a Found,
    pub(super) now: Timestamp,
    /// Set once it is known that the recorded state was the newest one in this pass: because the pass has recorded it, or
    /// because it has asked. A record that does not change is written by nobody, so nothing else would tell.
    pub(super) newest: OnceCell<()>,
}

impl Intent<'_> {
    /// Makes it true. Traffic that is to leave the canary leaves first, and waits for nothing else.
    pub(super) async fn carry_out(&self) -> Result<(), Error> {
        let selector = self.found.selector.as_ref().and_then(|selector| selector.as_ref().ok());
        self.retreat().await?;
        if let (Some(selector), Some(target)) = (selector, &self.found.target) {
            self.heir_is_there().await?;
            self.services(selector, target).await?;
            self.primary(target).await?;
            self.copy_of_scaler(selector).await?;
            self.copies(target).await?;
            self.apex(selector, target).await?;
        }
        self.route().await?;
        // A scaler that starts pods goes to rest before they are stopped, and wakes up before they are started.
        self.pause_scaler().await?;
        if let Some(target) = &self.found.target {
            self.scale(target).await?;
        }
        self.former_scalers().await
    }

    /// Leads traffic away that is to leave the canary, or may have to: of a route that was written without an answer nobody
    /// knows what it says.
    pub(super) async fn retreat(&self) -> Result<(), Error> {
        if is_retreat(self.plan, self.state, self.found) {
            return self.route().await.map_err(|error| match error {
                // Somebody undoes it each time: to be quick would not help.
                Error::Keep(_) => error,
                error => Error::Retreat(Box::new(error)),
            });
        }
        if self.rollout.routes().iter().any(|key| self.context.cache.is_doubtful(key)) {
            return self.route().await;
        }
        Ok(())
    }

    async fn route(&self) -> Result<(), Error> {
        let Rollout { mesh, routed, .. } = self.rollout;
        let wanted = rollout::wanted(self.state, self.state.traffic(self.plan));
        for (place, key) in self.rollout.routes().iter().enumerate() {
            let all = self.found.routes();
            let render = |found: Option<&Value>| {
                let rendered = mesh.render(routed, &wanted, &replaced(&all, place, found)).swap_remove(place);
                Ok(rendered.map(|object| self.handed_on(object)))
            };
            let writes = |found: Option<&Value>| {
                let routing = mesh.observe(routed, &replaced(&all, place, found));
                if leads_away(self.plan, self.state, &routing) { Lane::Retreat } else { Lane::Work }
            };
            let found = self.found.routes[place].as_ref();
            if let Some(written) = self.converge_by((Lane::Retreat, writes), key, found, render).await? {
                let now = self.context.clock.now();
                self.context.cache.led(key, &written, self.state.weight(), self.canary, now);
            }
        }
        Ok(())
    }

    async fn services(&self, selector: &Selector, target: &Value) -> Result<(), Error> {
        let Rollout { workload, app, .. } = self.rollout;
        for (place, suffix) in ["-primary", "-canary"].into_iter().enumerate() {
            let render = |found: Option<&Value>| {
                let mut pair = [None, None];
                pair[place] = found;
                let [primary, canary] = workload.services(app, selector, target, pair);
                Ok([primary, canary].into_iter().nth(place).flatten().map(|service| self.kept(service)))
            };
            self.converge(&self.rollout.service(suffix), self.found.versions[place].as_ref(), render).await?;
        }
        Ok(())
    }

    async fn primary(&self, target: &Value) -> Result<(), Error> {
        let Some(revision) = self.state.primary_revision() else { return Ok(()) };
        let record = self.rollout.recorded(self.context, revision);
        let template = record.as_deref().and_then(workload::recorded_template);
        let wanted = Wanted { revision, template: template.as_ref(), replicas: self.replicas() };
        let render = |found: Option<&Value>| {
            let primary = self.rollout.workload.primary(&self.rollout.app, target, found, wanted);
            primary.map(|primary| Some(self.kept(primary))).map_err(Error::Render)
        };
        self.converge(&self.rollout.primary(), self.found.primary.as_ref(), render).await
    }

    /// An autoscaler has its way with the primary, but for the pods that it is about to need.
    fn replicas(&self) -> Replicas {
        let first = self.state.replicas;
        match &self.found.scaling {
            None => Replicas::Exactly(first),
            Some(scaling) => {
                let most = scaling.most(self.rollout);
                Replicas::Autoscaled { first: first.min(most), floor: self.state.floor().min(most) }
            }
        }
    }

    /// The copies of configs go where the primary goes: with the target from its Canary, and with the next Canary from there.
    async fn copies(&self, target: &Value) -> Result<(), Error> {
        let Self { context, rollout, .. } = *self;
        let Some(primary) = context.cache.get(&rollout.primary()) else { return Ok(()) };
        match (self.heir(), object::get(target, &["metadata", "uid"]).and_then(Value::as_str)) {
            (Some(heir), _) => {
                let used = references(&rollout.workload.template(&primary)).into_keys();
                configs::hand_over(context, rollout, used, &rollout.uid, &heir).await
            }
            (None, Some(uid)) if object::owned_by(&primary, &rollout.uid) => {
                configs::hand_over(context, rollout, configs::owned(context, uid), uid, &rollout.app.owner).await
            }
            (None, _) => Ok(()),
        }
    }

    async fn apex(&self, selector: &Selector, target: &Value) -> Result<(), Error> {
        let Rollout { workload, app, .. } = self.rollout;
        let render = |found: Option<&Value>| {
            let service = workload.apex(app, selector, target, self.state.traffic(self.plan), found);
            Ok(service.map(|service| self.handed_on(service)))
        };
        self.converge(&self.rollout.service(""), self.found.apex.as_ref(), render).await
    }

    async fn scale(&self, target: &Arc<Value>) -> Result<(), Error> {
        let scale = self.state.scale(self.plan, self.now);
        let render = |found: Option<&Value>| Ok(found.map(|found| self.rollout.workload.scaled(found, scale)));
        self.converge(&self.rollout.target(), Some(target), render).await
    }

    /// An object that the users' traffic goes through: when the Canary goes it stays, unless everything is to be as
    /// before. It is the users' then: one that went with the target would be missed when that is made anew.
    fn handed_on(&self, mut object: Value) -> Value {
        let stays = match self.state.phase {
            Phase::Terminating { stage: Farewell::Released, .. } => !self.canary.spec.revert_on_deletion,
            Phase::Terminating { stage: Farewell::Kept, .. } => true,
            _ => false,
        };
        if stays && object::owned_by(&object, &self.rollout.uid) {
            object::disown(&mut object, &self.rollout.uid, None);
            object::let_go(&mut object);
        }
        self.kept(object)
    }

    /// An object that goes on serving without its Canary belongs to the target, and goes with it.
    pub(super) fn kept(&self, mut object: Value) -> Value {
        if let Some(heir) = self.heir() {
            object::disown(&mut object, &self.rollout.uid, Some(&heir));
        }
        object
    }

    /// What is given to a target that is gone goes with it, and a watch may still show one.
    async fn heir_is_there(&self) -> Result<(), Error> {
        if self.heir().is_none() {
            return Ok(());
        }
        still_there(self.context, &self.rollout.target(), self.found.target.as_deref().map(identity).as_ref()).await
    }

    /// Who owns what goes on serving without its Canary, if it is to.
    fn heir(&self) -> Option<Value> {
        let Phase::Terminating { stage: Farewell::Kept, .. } = self.state.phase else { return None };
        let target = self.found.target.as_ref()?;
        let resource = self.rollout.workload.resource();
        Some(json!({
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "name": target["metadata"]["name"],
            "uid": target["metadata"]["uid"],
        }))
    }

    /// Makes one object what `render` says, beginning from what was found.
    pub(super) async fn converge(
        &self,
        key: &Key,
        found: Option<&Arc<Value>>,
        render: impl Fn(Option<&Value>) -> Result<Option<Value>, Error>,
    ) -> Result<(), Error> {
        self.converge_by((Lane::Work, |_: Option<&Value>| Lane::Work), key, found, render).await.map(drop)
    }

    /// The same, with the lanes by which it is looked at, and by which it is written from what was found. Answers with the
    /// object if it was written.
    async fn converge_by(
        &self,
        (reads, writes): (Lane, impl Fn(Option<&Value>) -> Lane),
        key: &Key,
        found: Option<&Arc<Value>>,
        render: impl Fn(Option<&Value>) -> Result<Option<Value>, Error>,
    ) -> Result<Option<Value>, Error> {
        // What this pass itself has written is newer than what it looked at.
        let mut found = self.context.cache.newer(key, found.cloned());
        // A retreat needs no look: what it was rendered from is refused if it is old.
        if self.context.cache.is_doubtful(key) && writes(found.as_deref()) != Lane::Retreat {
            found = self.look_again(reads, &writes, key).await?;
        }
        for _ in 0..ATTEMPTS {
            let Some(wanted) = render(found.as_deref())? else { return Ok(None) };
            if found.as_deref() == Some(&wanted) {
                return Ok(None);
            }
            let lane = writes(found.as_deref());
            let asked = self.newest.get_or_try_init(|| self.still_newest(lane));
            in_time(lane, async { asked.await.copied() }).await?;
            let written = match &found {
                Some(found) => self.context.change(lane, key, found, &wanted).await,
                // Whoever deletes everything, or the whole namespace, wants nothing made anew.
                None if matches!(self.state.phase, Phase::Terminating { .. }) => return Ok(None),
                None => self.context.create(key, &wanted).await,
            };
            match written {
                Ok(written) if render(Some(&written))?.as_ref() == Some(&written) => {
                    self.context.cache.settle(key);
                    return Ok(Some(written));
                }
                Ok(_) => return Err(Error::Keep(key.to_string())),
                Err(error) if error.is_conflict() => found = self.look_again(lane, &writes, key).await?,
                Err(error) => {
                    if error.is_unheard() {
                        self.context.cache.doubt(key.clone());
                    }
                    return Err(error);
                }
            }
        }
        Err(Error::Supersede(key.to_string()))
    }

    /// An object as it is now, if the recorded state is the newest after that. In this order: who records something newer
    /// writes after that, and that write would be met.
    async fn look_again(
        &self,
        reads: Lane,
        writes: impl Fn(Option<&Value>) -> Lane,
        key: &Key,
    ) -> Result<Option<Arc<Value>>, Error> {
        let found = self.context.look_up(reads, key).await?.map(Arc::new);
        let lane = writes(found.as_deref());
        in_time(lane, self.still_newest(lane)).await?;
        Ok(found)
    }

    /// Whether the recorded state still is the newest: an instance that stood still must not undo what came after.
    pub(super) async fn still_newest(&self, lane: Lane) -> Result<(), Error> {
        still_newest(self.context, lane, &self.rollout.key, self.canary).await
    }
}

/// What is said of the newest state. A retreat does not wait for it for long, and goes on when nobody answers.
async fn in_time(lane: Lane, asked: impl Future<Output = Result<(), Error>>) -> Result<(), Error> {
    if lane != Lane::Retreat {
        return asked.await;
    }
    match timeout(WORD, asked).await {
        Ok(Err(newer @ Error::Supersede(_))) => Err(newer),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Whether traffic is to leave the canary that is still led there, by the record or by somebody else.
pub(super) fn is_retreat(plan: &Plan, state: &State, found: &Found) -> bool {
    leads_away(plan, state, &found.routing)
}

/// Objects with another one in the place of one of them.
fn replaced<'object>(
    all: &[Option<&'object Value>],
    place: usize,
    object: Option<&'object Value>,
) -> Vec<Option<&'object Value>> {
    let mut all = all.to_vec();
    all[place] = object;
    all
}

/// The same, of routes that lead so.
fn leads_away(plan: &Plan, state: &State, routing: &Routing) -> bool {
    matches!(state.traffic(plan), Traffic::Split(split) if split.weight < shown(routing))
}

/// Whether less traffic is seen to be led to the canary than is on record: somebody has taken it back, or the watch is behind.
pub(super) fn is_behind(plan: &Plan, state: &State, found: &Found) -> bool {
    matches!(state.traffic(plan), Traffic::Split(split) if split.weight > shown(&found.routing))
}

/// The share that the canary may get by what is seen of its routes.
fn shown(routing: &Routing) -> Weight {
    match routing {
        Routing::Split(weight, _) => *weight,
        Routing::Mixed => Weight::FULL,
        Routing::Missing | Routing::Whole(_) | Routing::Unusable(_) => Weight::ZERO,
    }
}
