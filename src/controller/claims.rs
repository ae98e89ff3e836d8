//! Which Canaries are about which names: what tells whom a changed object concerns, and two Canaries on one app apart.
//!
//! Invariant: it holds what the store of Canaries holds, and an event costs as much as one Canary has names, however
//! many Canaries there are.

use crate::api::Canary;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;
use kube::runtime::watcher::Event;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// What Serin's own objects have behind the app's name.
const SUFFIXES: [&str; 2] = ["-primary", "-canary"];

/// Names an object of a kind that is known from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NamespacedName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl NamespacedName {
    /// Names the object `name` in `namespace`.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.namespace, self.name)
    }
}

/// What one Canary is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    namespace: String,
    name: String,
    created: Option<Timestamp>,
    /// Whether it is being deleted, and hands its app back.
    leaving: bool,
    kind: String,
    target: String,
    service: String,
    /// Kind and name of the autoscaler.
    scaler: Option<(String, String)>,
}

impl Claim {
    /// What a Canary's spec says.
    pub(super) fn of(canary: &Canary) -> Self {
        let target = &canary.spec.target_ref;
        Self {
            namespace: canary.namespace().unwrap_or_default(),
            name: canary.name_any(),
            created: canary.metadata.creation_timestamp.as_ref().map(|time| time.0),
            leaving: canary.metadata.deletion_timestamp.is_some(),
            kind: target.kind.clone(),
            target: target.name.clone(),
            service: canary.spec.service.name.as_ref().unwrap_or(&target.name).clone(),
            scaler: canary.spec.autoscaler_ref.as_ref().map(|scaler| (scaler.kind.clone(), scaler.name.clone())),
        }
    }

    /// Names the Canary.
    fn into_name(self) -> NamespacedName {
        NamespacedName { namespace: self.namespace, name: self.name }
    }

    /// The namespace of the Canary and of all that it is about.
    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Canary's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether it comes before another on the same app: one that hands the app back first, then the older one.
    pub(super) fn precedes(&self, other: &Self) -> bool {
        let rank = |claim: &Self| (!claim.leaving, claim.created, claim.name.clone());
        rank(self) < rank(other)
    }

    /// The first object that both change, as kind and name.
    pub(super) fn contested(&self, other: &Self) -> Option<(&str, String)> {
        let other: HashSet<_> = other.objects().collect();
        self.objects().find(|object| other.contains(object))
    }

    /// Everything that is changed for this Canary, as kind and name. A route has the name of the Service.
    pub(super) fn objects(&self) -> impl Iterator<Item = (&str, String)> {
        let of_target = ["", "-primary"].map(|suffix| (self.kind.as_str(), format!("{}{suffix}", self.target)));
        let of_service = ["", "-primary", "-canary"].map(|suffix| ("Service", format!("{}{suffix}", self.service)));
        let scaler = self.scaler.as_ref();
        let of_scaler =
            scaler.map(|(kind, name)| ["", "-primary"].map(|suffix| (kind.as_str(), format!("{name}{suffix}"))));
        of_target.into_iter().chain(of_scaler.into_iter().flatten()).chain(of_service)
    }

    /// The names of the objects that it may be about, whatever their kind.
    pub(super) fn all_names(&self) -> impl Iterator<Item = String> {
        let own = |name: &str| [name.to_owned(), format!("{name}{}", SUFFIXES[0]), format!("{name}{}", SUFFIXES[1])];
        self.names().into_iter().flat_map(own)
    }

    /// The names that lead to it.
    fn names(&self) -> BTreeSet<&str> {
        let scaler = self.scaler.as_ref().map(|(_, name)| name.as_str());
        [self.target.as_str(), self.service.as_str()].into_iter().chain(scaler).collect()
    }
}

/// The index, kept up to date by the events of one watch.
#[derive(Debug, Default)]
pub(super) struct Claims {
    index: Mutex<Index>,
    /// Whether all Canaries were listed once.
    listed: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Index {
    claims: HashMap<NamespacedName, Claim>,
    /// The names of Canaries by the names that they are about.
    by_name: HashMap<NamespacedName, BTreeSet<String>>,
    /// What the list that is being read has shown so far.
    listed: HashSet<NamespacedName>,
}

impl Claims {
    /// Takes note of an event; answers with the Canaries for which the way may be free now, or barred.
    pub(super) fn apply(&self, event: &Event<DynamicObject>) -> Vec<NamespacedName> {
        let mut index = self.index();
        let concerned = match event {
            Event::Init => {
                index.listed.clear();
                vec![]
            }
            Event::InitApply(canary) => {
                index.listed.insert(name_of(canary));
                index.put(canary)
            }
            Event::InitDone => {
                let listed = std::mem::take(&mut index.listed);
                let gone: Vec<_> = index.claims.keys().filter(|place| !listed.contains(*place)).cloned().collect();
                self.listed.send_replace(true);
                gone.iter().flat_map(|place| index.remove(place)).collect()
            }
            Event::Apply(canary) => index.put(canary),
            Event::Delete(canary) => index.remove(&name_of(canary)),
        };
        concerned.into_iter().map(Claim::into_name).collect()
    }

    /// The Canaries that an object may be about: its name begins with the target's or the Service's.
    pub(super) fn about(&self, namespace: &str, name: &str) -> Vec<NamespacedName> {
        let index = self.index();
        let names: BTreeSet<_> = [name, base(name)].into();
        let canaries: BTreeSet<_> = names.into_iter().flat_map(|name| index.named(namespace, name)).collect();
        canaries.into_iter().map(|name| NamespacedName::new(namespace, name)).collect()
    }

    /// Whether an object may be about any Canary.
    pub(super) fn are_about(&self, namespace: &str, name: &str) -> bool {
        let index = self.index();
        [name, base(name)].into_iter().any(|name| index.named(namespace, name).next().is_some())
    }

    /// Returns when all Canaries were listed once.
    pub(super) async fn listed(&self) {
        // The sender lives as long as `self`.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// The other Canaries that would change the same objects.
    pub(super) fn rivals(&self, claim: &Claim) -> Vec<Claim> {
        self.index().rivals(claim)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Index {
    /// Answers with the rivals before and after, if anything changed.
    fn put(&mut self, canary: &DynamicObject) -> Vec<Claim> {
        let place = name_of(canary);
        // One that cannot be read claims nothing, and stops no other.
        let claim = canary.clone().try_parse().ok().as_ref().map(Claim::of);
        if self.claims.get(&place) == claim.as_ref() {
            return vec![];
        }
        let mut concerned = self.remove(&place);
        if let Some(claim) = claim {
            concerned.extend(self.rivals(&claim));
            for name in claim.names() {
                let place = NamespacedName::new(&claim.namespace, name);
                self.by_name.entry(place).or_default().insert(claim.name.clone());
            }
            self.claims.insert(place, claim);
        }
        concerned
    }

    /// Answers with those whose rival it was.
    fn remove(&mut self, place: &NamespacedName) -> Vec<Claim> {
        let Some(claim) = self.claims.remove(place) else { return vec![] };
        for name in claim.names() {
            let place = NamespacedName::new(&claim.namespace, name);
            if let Some(canaries) = self.by_name.get_mut(&place) {
                canaries.remove(&claim.name);
                if canaries.is_empty() {
                    self.by_name.remove(&place);
                }
            }
        }
        self.rivals(&claim)
    }

    fn rivals(&self, claim: &Claim) -> Vec<Claim> {
        let near: BTreeSet<String> = claim.names().into_iter().flat_map(relatives).collect();
        let names: BTreeSet<_> = near.iter().flat_map(|name| self.named(&claim.namespace, name)).collect();
        let others = names.into_iter().filter(|name| **name != claim.name);
        let others = others.filter_map(|name| self.claims.get(&NamespacedName::new(&claim.namespace, name)));
        others.filter(|other| claim.contested(other).is_some()).cloned().collect()
    }

    fn named(&self, namespace: &str, name: &str) -> impl Iterator<Item = &String> {
        self.by_name.get(&NamespacedName::new(namespace, name)).into_iter().flatten()
    }
}

/// The app's name in that of one of its objects.
fn base(name: &str) -> &str {
    SUFFIXES.into_iter().find_map(|suffix| name.strip_suffix(suffix)).unwrap_or(name)
}

/// The names that an app could have which shares an object with the app of this name.
fn relatives(name: &str) -> impl Iterator<Item = String> {
    let own = [name.to_owned(), base(name).to_owned()];
    own.into_iter().chain(SUFFIXES.map(|suffix| format!("{name}{suffix}")))
}

fn name_of(canary: &DynamicObject) -> NamespacedName {
    NamespacedName::new(canary.namespace().unwrap_or_default(), canary.name_any())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn canary(name: &str, target: &str, service: Option<&str>, second: u8) -> DynamicObject {
        object(json!({
            "apiVersion": "serin.dev/v1beta1",
            "kind": "Canary",
            "metadata": {
                "name": name, "namespace": "shop", "creationTimestamp": format!("2026-01-01T00:00:{second:02}Z"),
            },
            "spec": {"targetRef": {"kind": "Deployment", "name": target}, "service": {"name": service, "port": 80}},
        }))
    }

    fn object(canary: Value) -> DynamicObject {
        serde_json::from_value(canary).unwrap()
    }

    fn claim(canary: &DynamicObject) -> Claim {
        Claim::of(&canary.clone().try_parse().unwrap())
    }

    fn names(references: Vec<NamespacedName>) -> Vec<String> {
        references.into_iter().map(|reference| reference.name).collect()
    }

    fn rivals(claims: &Claims, canary: &DynamicObject) -> Vec<String> {
        claims.rivals(&claim(canary)).into_iter().map(|rival| rival.name).collect()
    }

    #[test]
    fn an_object_leads_to_its_canary_whatever_its_kind() {
        let claims = Claims::default();
        claims.apply(&Event::Apply(canary("one", "web", Some("shop"), 1)));
        claims.apply(&Event::Apply(canary("two", "blog", None, 1)));
        for name in ["web", "web-primary", "shop", "shop-primary", "shop-canary"] {
            assert_eq!(names(claims.about("shop", name)), ["one"], "{name}");
        }
        assert_eq!(names(claims.about("shop", "blog-canary")), ["two"]);
        for (namespace, name) in [("shop", "one"), ("shop", "web-api"), ("shop", "we"), ("other", "web")] {
            assert!(claims.about(namespace, name).is_empty(), "{namespace}/{name}");
        }
    }

    #[test]
    fn an_edit_and_a_deletion_leave_nothing_behind() {
        let claims = Claims::default();
        claims.apply(&Event::Apply(canary("one", "web", None, 1)));
        claims.apply(&Event::Apply(canary("one", "api", None, 1)));
        assert!(claims.about("shop", "web").is_empty());
        assert_eq!(names(claims.about("shop", "api-primary")), ["one"]);

        let unreadable = object(json!({"metadata": {"name": "one", "namespace": "shop"}, "spec": {}}));
        claims.apply(&Event::Apply(unreadable));
        assert!(claims.about("shop", "api").is_empty());

        claims.apply(&Event::Apply(canary("one", "web", None, 1)));
        claims.apply(&Event::Delete(canary("one", "web", None, 1)));
        let Index { claims, by_name, listed } = &*claims.index();
        assert!(claims.is_empty() && by_name.is_empty() && listed.is_empty());
    }

    #[test]
    fn a_new_list_replaces_the_old_one() {
        let claims = Claims::default();
        let list = |canaries: &[&DynamicObject]| {
            let items = canaries.iter().map(|canary| Event::InitApply((*canary).clone()));
            let events = [Event::Init].into_iter().chain(items).chain([Event::InitDone]);
            names(events.flat_map(|event| claims.apply(&event)).collect())
        };
        let [one, two] = [canary("one", "web", None, 1), canary("two", "web", None, 2)];
        assert_eq!(list(&[&one, &two]), ["one"]);
        assert_eq!(names(claims.about("shop", "web")), ["one", "two"]);
        assert_eq!(list(&[&two]), ["two"], "what went while nobody watched is told, too");
        assert_eq!(names(claims.about("shop", "web")), ["two"]);
        assert!(list(&[&two]).is_empty(), "the same again is nothing new");
    }

    #[test]
    fn canaries_that_change_the_same_object_are_rivals() {
        let claims = Claims::default();
        let web = canary("one", "web", Some("shop"), 1);
        claims.apply(&Event::Apply(web));
        let cases = vec![
            (canary("two", "web", None, 2), Some(("Deployment", "web"))),
            (canary("two", "api", Some("shop"), 2), Some(("Service", "shop"))),
            (canary("two", "web-primary", None, 2), Some(("Deployment", "web-primary"))),
            (canary("two", "api", Some("shop-canary"), 2), Some(("Service", "shop-canary"))),
            (canary("two", "shop", Some("web"), 2), None),
            (canary("two", "web-canary", None, 2), None),
            (canary("one", "web", Some("shop"), 1), None),
        ];
        for (other, expected) in cases {
            let found = claims.rivals(&claim(&other));
            let contested = found
                .first()
                .and_then(|rival| claim(&other).contested(rival).map(|(kind, name)| (kind.to_owned(), name)));
            let expected = expected.map(|(kind, name)| (kind.to_owned(), name.to_owned()));
            assert_eq!(contested, expected, "{other:?}");
        }
        let elsewhere = json!({
            "metadata": {"name": "two", "namespace": "other"},
            "spec": {"targetRef": {"kind": "Deployment", "name": "web"}, "service": {"port": 80}},
        });
        assert!(rivals(&claims, &object(elsewhere)).is_empty());
    }

    #[test]
    fn rivals_are_told_when_one_comes_changes_or_goes() {
        let claims = Claims::default();
        let [one, two] = [canary("one", "web", None, 1), canary("two", "web", None, 2)];
        assert!(claims.apply(&Event::Apply(one)).is_empty());
        assert_eq!(names(claims.apply(&Event::Apply(two))), ["one"]);
        assert!(claims.apply(&Event::Apply(canary("two", "web", None, 2))).is_empty(), "a status is no claim");
        assert_eq!(names(claims.apply(&Event::Apply(canary("one", "api", None, 1)))), ["two"]);
        assert_eq!(names(claims.apply(&Event::Apply(canary("one", "web", None, 1)))), ["two"]);
        assert_eq!(names(claims.apply(&Event::Delete(canary("one", "web", None, 1)))), ["two"]);
    }

    #[test]
    fn the_older_one_comes_first_then_the_name_and_before_both_who_leaves() {
        let [old, young] = [claim(&canary("z", "web", None, 1)), claim(&canary("a", "web", None, 2))];
        assert!(old.precedes(&young) && !young.precedes(&old));
        let same = claim(&canary("b", "web", None, 2));
        assert!(young.precedes(&same) && !same.precedes(&young));
        let leaving = Claim { leaving: true, ..same };
        assert!(leaving.precedes(&old) && !old.precedes(&leaving));
    }
}
