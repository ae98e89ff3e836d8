//! The objects of one kind, as their watch shows them and as this process has written them since.
//!
//! Invariant: a list is shown when it is complete, and then all of it at once. What this process has written is shown
//! until the watch is no longer behind it. Of an object that nobody looks at there is nothing but its name and version, and
//! of the others a text that takes little room.

use super::claims::{Claims, NamespacedName};
use super::slim::slim;
use crate::api::Canary;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::{DynamicObject, ObjectMeta};
use kube::core::{ApiResource, Resource};
use kube::runtime::watcher::Event;
use lz4_flex::block;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// A watch that has not shown a write after this long will not: the object was deleted again.
const WATCH_LAG: Duration = Duration::from_secs(30);

/// How much of the first object of a kind the others are compressed by, in bytes.
const EXAMPLE: usize = 16 * 1024;

/// `namespace/name`: one text is half as large as two.
type Place = Box<str>;

/// By which an object is found besides its name: an owner's UID, say.
pub(super) type Mark = Box<str>;

/// What objects of a kind are found by.
pub(super) type Marks = fn(&DynamicObject) -> Vec<Mark>;

/// The objects of one kind in one scope.
pub struct Store {
    resource: ApiResource,
    /// Who says which objects are looked at; without them all are.
    claims: Option<Arc<Claims>>,
    marks: Marks,
    /// What the first of them said: the others are much like it.
    example: OnceLock<Arc<[u8]>>,
    objects: RwLock<Objects>,
    listed: watch::Sender<bool>,
}

#[derive(Default)]
struct Objects {
    shown: HashMap<Place, Packed>,
    /// The list that is being read.
    coming: HashMap<Place, Packed>,
    /// The objects that a mark leads to.
    marked: HashMap<Mark, HashSet<Place>>,
    written: HashMap<Place, Written>,
    /// What was written when, oldest first, whether it is still remembered or not.
    expiring: VecDeque<(Instant, Place)>,
}

/// An object as it is kept.
#[derive(Clone, Debug)]
struct Packed {
    version: u128,
    /// Nothing of an object that nobody looks at.
    text: Option<Arc<Text>>,
    marks: Box<[Mark]>,
}

/// What one version of an object says.
#[derive(Debug)]
struct Text {
    /// As JSON, without its type and its version, compressed.
    compressed: Box<[u8]>,
    /// By what it is compressed; the same for all texts of a store, so that equal ones are equal.
    example: Arc<[u8]>,
    /// The same as a tree, which is ten times as large, as long as somebody looks at it.
    tree: Mutex<Weak<Value>>,
}

impl Text {
    fn new(json: &str, example: &Arc<[u8]>) -> Self {
        let compressed = block::compress_prepend_size_with_dict(json.as_bytes(), example).into();
        Self { compressed, example: Arc::clone(example), tree: Mutex::default() }
    }

    fn json(&self) -> Vec<u8> {
        let json = block::decompress_size_prepended_with_dict(&self.compressed, &self.example);
        json.expect("it was compressed by this process")
    }
}

/// What this process has written.
struct Written {
    packed: Packed,
    at: Instant,
    /// The watch has shown it: what it does not show any more is gone.
    seen: bool,
}

/// Something new about an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Which object.
    pub object: NamespacedName,
    /// The Canary that owns it.
    pub canary: Option<String>,
}

/// An object as it was kept.
pub(super) struct Kept {
    version: u128,
    text: Arc<Text>,
}

impl Store {
    /// Of a kind of which every object is looked at.
    pub(super) fn whole(resource: ApiResource, marks: Marks) -> Self {
        Self {
            resource,
            claims: None,
            marks,
            example: OnceLock::new(),
            objects: RwLock::default(),
            listed: watch::Sender::new(false),
        }
    }

    /// Of a kind of which only those objects are looked at that a Canary claims, or that Serin has marked.
    pub(super) fn claimed(resource: ApiResource, marks: Marks, claims: Arc<Claims>) -> Self {
        Self { claims: Some(claims), ..Self::whole(resource, marks) }
    }

    /// Takes in what a watch shows; answers with what is new in it, but for what nobody looks at.
    pub fn apply(&self, event: Event<DynamicObject>) -> Vec<Change> {
        match event {
            Event::Init => {
                self.write().coming = HashMap::new();
                vec![]
            }
            Event::InitApply(object) => {
                let place = place_of(&object);
                let packed = self.packed(&place, object);
                self.write().coming.insert(place, packed);
                vec![]
            }
            Event::InitDone => self.replace(),
            Event::Apply(object) => {
                let place = place_of(&object);
                let packed = self.packed(&place, object);
                self.write().put(&place, packed).map(|news| change(&place, &news)).into_iter().collect()
            }
            Event::Delete(object) => {
                let place = place_of(&object);
                let gone = self.write().remove(&place, version_of(&object));
                gone.filter(|gone| gone.text.is_some()).map(|gone| change(&place, &gone)).into_iter().collect()
            }
        }
    }

    /// Returns when the first list is shown.
    pub(super) async fn ready(&self) {
        // The sender lives as long as `self`.
        let _ = self.listed.subscribe().wait_for(|listed| *listed).await;
    }

    /// The newest known version of an object that is looked at.
    pub(super) fn get(&self, namespace: &str, name: &str) -> Option<Kept> {
        self.read().newest(&place(namespace, name))?.kept()
    }

    /// What this process wrote last, if nothing newer has been shown, and whether a watch should show it by now.
    pub(super) fn written(&self, namespace: &str, name: &str) -> Option<(Kept, bool)> {
        let objects = self.read();
        let Written { packed, at, .. } = objects.written.get(&place(namespace, name))?;
        Some((packed.kept()?, at.elapsed() > WATCH_LAG))
    }

    /// Whether the watch shows the object.
    pub(super) fn shows(&self, namespace: &str, name: &str) -> bool {
        self.read().shown.contains_key(&place(namespace, name))
    }

    /// The Canary that owns an object, as the watch shows it.
    pub(super) fn holder(&self, namespace: &str, name: &str) -> Option<OwnerReference> {
        self.read().shown.get(&place(namespace, name))?.kept()?.holder()
    }

    /// What a mark leads to, as the watch shows it, by namespace and name.
    pub(super) fn marked(&self, mark: &str) -> Vec<Arc<Value>> {
        let found: Vec<_> = {
            let objects = self.read();
            // A set has no order, and what is written must not depend on that.
            let places: BTreeSet<_> = objects.marked.get(mark).into_iter().flatten().collect();
            places.into_iter().filter_map(|place| objects.shown.get(place)?.kept()).collect()
        };
        found.iter().filter_map(|kept| self.value(kept)).collect()
    }

    /// The names of the same, in no order.
    pub(super) fn marked_names(&self, mark: &str) -> Vec<String> {
        let objects = self.read();
        let places = objects.marked.get(mark).into_iter().flatten();
        places.filter_map(|place| Some(place.split_once('/')?.1.to_owned())).collect()
    }

    /// Whether there can be objects of which nothing is kept but the name.
    pub(super) fn has_stubs(&self) -> bool {
        self.claims.is_some()
    }

    /// Whether an object is there of which nothing is kept but the name: it was nobody's business until now.
    pub(super) fn is_stub(&self, namespace: &str, name: &str) -> bool {
        self.read().newest(&place(namespace, name)).is_some_and(|packed| packed.text.is_none())
    }

    /// Keeps what the API server has said of an object, which is slim, if there was nothing but the name. What a watch has
    /// shown meanwhile is as new, or newer.
    pub(super) fn complete(&self, namespace: &str, name: &str, found: Option<DynamicObject>) {
        let place = place(namespace, name);
        let found = found.map(|object| self.pack(object));
        let mut objects = self.write();
        let Some(Packed { version, text: None, .. }) = objects.shown.get(&place) else { return };
        let stub = *version;
        match found {
            Some(found) if found.version >= stub => drop(objects.put(&place, found)),
            Some(_) => {}
            None => drop(objects.remove(&place, stub)),
        }
    }

    /// Remembers what the API server answered to a write; it is slim.
    pub(super) fn wrote(&self, object: DynamicObject) {
        let place = place_of(&object);
        let packed = self.pack(object);
        self.write().remember(place, packed);
    }

    /// Remembers a Canary as the API server answered it to a write of its status.
    pub(super) fn recorded(&self, canary: &Canary) {
        let mut canary = canary.clone();
        let version = canary.metadata.resource_version.take().map_or(0, |text| number(&text));
        let place = place(canary.namespace().as_deref().unwrap_or_default(), &canary.name_any());
        self.write().remember(place, Packed { version, text: Some(self.text(&canary)), marks: Box::default() });
    }

    /// The object of a text that was kept. All who look at it at the same time look at the same one.
    pub(super) fn value(&self, kept: &Kept) -> Option<Arc<Value>> {
        let mut tree = kept.text.tree.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = tree.upgrade() {
            return Some(value);
        }
        let mut value: Value = serde_json::from_slice(&kept.text.json()).ok()?;
        value["apiVersion"] = self.resource.api_version.as_str().into();
        value["kind"] = self.resource.kind.as_str().into();
        value["metadata"]["resourceVersion"] = kept.version.to_string().into();
        let value = Arc::new(value);
        *tree = Arc::downgrade(&value);
        Some(value)
    }

    /// The list that was read takes the place of what was shown before.
    fn replace(&self) -> Vec<Change> {
        let (before, changes) = {
            let mut objects = self.write();
            let coming = std::mem::take(&mut objects.coming);
            let before = std::mem::replace(&mut objects.shown, coming);
            let changes = objects.news_since(&before);
            objects.settle();
            (before, changes)
        };
        drop(before);
        self.listed.send_replace(true);
        changes
    }

    /// What is to be kept of an object. One that was looked at once is kept whole for as long as it is there: a pass
    /// that is under way must not lose it from view.
    fn packed(&self, place: &str, mut object: DynamicObject) -> Packed {
        let version = version_of(&object);
        let known = self.read().shown.get(place).cloned();
        let was_whole = known.as_ref().is_some_and(|known| known.text.is_some());
        match known {
            Some(known) if was_whole && known.version == version => known,
            _ if was_whole || self.is_looked_at(&object) => {
                slim(&self.resource, &mut object);
                self.pack(object)
            }
            _ => Packed { version, text: None, marks: Box::default() },
        }
    }

    fn pack(&self, mut object: DynamicObject) -> Packed {
        let version = version_of(&object);
        let marks = (self.marks)(&object).into();
        object.metadata.resource_version = None;
        object.types = None;
        Packed { version, text: Some(self.text(&object)), marks }
    }

    fn text(&self, object: &impl Serialize) -> Arc<Text> {
        let json = serde_json::to_string(object).expect("all keys are texts, so it can be written as JSON");
        let example = self.example.get_or_init(|| json.as_bytes()[..json.len().min(EXAMPLE)].into());
        Arc::new(Text::new(&json, example))
    }

    fn is_looked_at(&self, object: &DynamicObject) -> bool {
        let Some(claims) = &self.claims else { return true };
        let (namespace, name) = name_of(object);
        claims.are_about(namespace, name) || is_marked(object)
    }

    fn read(&self) -> RwLockReadGuard<'_, Objects> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Objects> {
        self.objects.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Objects {
    /// Shows an object; answers with it if that says something new. A watch that is behind what the API server itself has
    /// said is not believed.
    fn put(&mut self, place: &Place, mut packed: Packed) -> Option<Packed> {
        if self.shown.get(place).is_some_and(|before| before.version > packed.version) {
            return None;
        }
        packed.text = self.seen(place, packed.version).or(packed.text);
        let before = self.shown.get(place);
        let is_news = packed.text.is_some() && before.is_none_or(|before| before.differs(&packed));
        self.unmark(place);
        self.mark(place, &packed);
        self.shown.insert(place.clone(), packed.clone());
        is_news.then_some(packed)
    }

    /// Shows an object no more; answers with it if it was shown.
    fn remove(&mut self, place: &Place, version: u128) -> Option<Packed> {
        self.unmark(place);
        if self.written.get(place).is_some_and(|ours| ours.packed.version <= version) {
            self.written.remove(place);
        }
        self.shown.remove(place)
    }

    fn mark(&mut self, place: &Place, packed: &Packed) {
        for mark in &packed.marks {
            self.marked.entry(mark.clone()).or_default().insert(place.clone());
        }
    }

    fn unmark(&mut self, place: &Place) {
        let marks = self.shown.get_mut(place).map(|packed| std::mem::take(&mut packed.marks));
        for mark in marks.iter().flatten() {
            if let Some(places) = self.marked.get_mut(mark) {
                places.remove(place);
                if places.is_empty() {
                    self.marked.remove(mark);
                }
            }
        }
    }

    /// What differs from what was shown before, and what is gone.
    fn news_since(&self, before: &HashMap<Place, Packed>) -> Vec<Change> {
        let is_new =
            |(place, packed): &(&Place, &Packed)| before.get(*place).is_none_or(|before| before.differs(packed));
        let is_gone = |(place, _): &(&Place, &Packed)| !self.shown.contains_key(*place);
        let news = self.shown.iter().filter(is_new).chain(before.iter().filter(is_gone));
        news.filter(|(_, packed)| packed.text.is_some()).map(|(place, packed)| change(place, packed)).collect()
    }

    /// Makes all else agree with what is shown.
    fn settle(&mut self) {
        let shown = std::mem::take(&mut self.shown);
        self.marked.clear();
        for (place, packed) in &shown {
            self.mark(place, packed);
            self.seen(place, packed.version);
        }
        self.written.retain(|place, ours| !ours.seen || shown.contains_key(place));
        self.shown = shown;
    }

    fn newest(&self, place: &str) -> Option<&Packed> {
        match (self.shown.get(place), self.written.get(place)) {
            (Some(shown), Some(ours)) if ours.packed.version > shown.version => Some(&ours.packed),
            (None, Some(ours)) if !ours.seen && ours.at.elapsed() <= WATCH_LAG => Some(&ours.packed),
            (shown, _) => shown,
        }
    }

    fn remember(&mut self, place: Place, packed: Packed) {
        let now = Instant::now();
        self.expire(now);
        if self.shown.get(&place).is_none_or(|shown| shown.version < packed.version) {
            self.expiring.push_back((now, place.clone()));
            self.written.insert(place, Written { packed, at: now, seen: false });
        }
    }

    /// The watch shows this version of an object. What was written before is forgotten; what was written as that is known
    /// as a write of this process for a while, and shares its text with what is shown, which is answered.
    fn seen(&mut self, place: &str, version: u128) -> Option<Arc<Text>> {
        let ours = self.written.get_mut(place)?;
        if ours.packed.version < version {
            self.written.remove(place);
            return None;
        }
        ours.seen = ours.packed.version == version;
        ours.packed.text.clone().filter(|_| ours.seen)
    }

    /// Forgets what no watch will show any more.
    fn expire(&mut self, now: Instant) {
        while self.expiring.front().is_some_and(|(at, _)| now.duration_since(*at) > WATCH_LAG)
            && let Some((at, place)) = self.expiring.pop_front()
        {
            if self.written.get(&place).is_some_and(|ours| ours.at == at) {
                self.written.remove(&place);
            }
        }
    }
}

impl Packed {
    fn kept(&self) -> Option<Kept> {
        self.text.clone().map(|text| Kept { version: self.version, text })
    }

    fn compressed(&self) -> Option<&[u8]> {
        self.text.as_deref().map(|text| &*text.compressed)
    }

    /// Whether it says something else, or more.
    fn differs(&self, other: &Self) -> bool {
        self.compressed() != other.compressed()
    }
}

impl Kept {
    /// The object as a Canary.
    ///
    /// # Errors
    /// When it cannot be read as one.
    pub(super) fn canary(&self) -> Result<Canary, serde_json::Error> {
        let mut canary: Canary = serde_json::from_slice(&self.text.json())?;
        canary.metadata.resource_version = Some(self.version.to_string());
        Ok(canary)
    }

    /// The Canary that owns the object.
    pub(super) fn holder(&self) -> Option<OwnerReference> {
        holder(&self.text)
    }

    pub(super) fn version(&self) -> u128 {
        self.version
    }
}

fn change(place: &str, packed: &Packed) -> Change {
    let (namespace, name) = place.split_once('/').unwrap_or_default();
    let canary = packed.text.as_deref().and_then(holder).map(|owner| owner.name);
    Change { object: NamespacedName::new(namespace, name), canary }
}

/// The Canary among the owners.
fn holder(text: &Text) -> Option<OwnerReference> {
    #[derive(Deserialize)]
    struct Owned {
        metadata: Owners,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Owners {
        #[serde(default)]
        owner_references: Vec<OwnerReference>,
    }
    let owned: Owned = serde_json::from_slice(&text.json()).ok()?;
    owned.metadata.owner_references.into_iter().find(is_canary)
}

fn is_canary(owner: &OwnerReference) -> bool {
    owner.kind == Canary::kind(&()) && owner.api_version == Canary::api_version(&())
}

/// Whether an object bears a sign of Serin, even if no Canary claims its name any more.
fn is_marked(object: &DynamicObject) -> bool {
    object.owner_references().iter().any(is_canary)
        || object.annotations().keys().any(|key| key.starts_with("serin.dev/"))
}

fn version_of(object: &DynamicObject) -> u128 {
    object.metadata.resource_version.as_deref().map_or(0, number)
}

/// Resource versions of one kind are comparable numbers (KEP-5504).
pub(super) fn number(version: &str) -> u128 {
    version.parse().unwrap_or_default()
}

fn place_of(object: &DynamicObject) -> Place {
    let (namespace, name) = name_of(object);
    place(namespace, name)
}

fn name_of(object: &DynamicObject) -> (&str, &str) {
    let ObjectMeta { namespace, name, .. } = &object.metadata;
    (namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default())
}

fn place(namespace: &str, name: &str) -> Place {
    format!("{namespace}/{name}").into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::GroupVersionKind;
    use serde_json::json;

    fn deployments() -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk("apps", "v1", "Deployment"))
    }

    fn store() -> Store {
        Store::whole(deployments(), |object| {
            object.owner_references().iter().map(|owner| owner.uid.as_str().into()).collect()
        })
    }

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn named(name: &str, version: u32) -> DynamicObject {
        object(json!({
            "metadata": {"name": name, "namespace": "shop", "resourceVersion": version.to_string()},
            "spec": {"of": version},
        }))
    }

    fn web(version: u32) -> DynamicObject {
        named("web", version)
    }

    /// The version of what is known of an object.
    fn known(store: &Store, name: &str) -> Option<u128> {
        store.get("shop", name).map(|kept| kept.version)
    }

    fn list(store: &Store, objects: impl IntoIterator<Item = DynamicObject>) -> Vec<String> {
        let items = objects.into_iter().map(Event::InitApply);
        let events = [Event::Init].into_iter().chain(items).chain([Event::InitDone]);
        names(events.flat_map(|event| store.apply(event)).collect())
    }

    fn names(changes: Vec<Change>) -> Vec<String> {
        let mut names: Vec<_> = changes.into_iter().map(|change| change.object.name).collect();
        names.sort();
        names
    }

    fn canary(name: &str, target: &str) -> DynamicObject {
        object(json!({
            "apiVersion": "serin.dev/v1beta1", "kind": "Canary", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"targetRef": {"kind": "Deployment", "name": target}, "service": {"port": 80}},
        }))
    }

    // ---- what it takes ----

    #[test]
    fn objects_that_are_alike_take_little_room() {
        let store = store();
        let like = |name: &str| {
            let labels = json!({"app.kubernetes.io/name": name, "app.kubernetes.io/managed-by": "somebody"});
            let container = json!({"name": "main", "image": format!("registry.example.com/shop/{name}:1.2.3"),
                "ports": [{"containerPort": 8080}], "readinessProbe": {"httpGet": {"path": "/healthz", "port": 8080}}});
            object(json!({
                "metadata": {"name": name, "namespace": "shop", "resourceVersion": "1", "labels": labels},
                "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
            }))
        };
        let names: Vec<_> = (0..100).map(|number| format!("app-{number}")).collect();
        list(&store, names.iter().map(|name| like(name)));
        let kept: Vec<_> = names.iter().map(|name| store.get("shop", name).unwrap()).collect();
        let compressed: usize = kept.iter().map(|kept| kept.text.compressed.len()).sum();
        let whole: usize = kept.iter().map(|kept| kept.text.json().len()).sum();
        assert!(compressed * 3 < whole, "{compressed} of {whole}");
        let image = &store.value(&kept[7]).unwrap()["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(*image, "registry.example.com/shop/app-7:1.2.3");
    }

    // ---- what this process has written ----

    #[tokio::test(start_paused = true)]
    async fn a_stale_watch_does_not_undo_a_write() {
        let store = store();
        store.wrote(web(10));
        assert_eq!(known(&store, "web"), Some(10), "created a moment ago");
        store.apply(Event::Apply(web(9)));
        assert_eq!(known(&store, "web"), Some(10));
        list(&store, [web(9)]);
        assert_eq!(known(&store, "web"), Some(10));
        store.apply(Event::Apply(web(11)));
        assert_eq!(known(&store, "web"), Some(11));
        assert!(store.written("shop", "web").is_none(), "a write is forgotten once the watch shows what came after");
        store.wrote(web(10));
        assert_eq!(known(&store, "web"), Some(11), "an answer that comes late is no news");
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_the_watch_shows_is_still_known_as_one() {
        let store = store();
        store.wrote(web(10));
        store.apply(Event::Apply(web(10)));
        let (ours, _) = store.written("shop", "web").expect("a pass may have looked before");
        let shown = store.get("shop", "web").unwrap();
        assert!(Arc::ptr_eq(&ours.text, &shown.text), "it takes no room of its own");
        list(&store, []);
        assert_eq!(known(&store, "web"), None, "what was shown once is gone when it is not shown any more");
        assert!(store.written("shop", "web").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_write_that_no_watch_ever_shows_is_forgotten() {
        let store = store();
        store.wrote(web(10));
        tokio::time::advance(WATCH_LAG * 2).await;
        assert_eq!(known(&store, "web"), None);
        store.wrote(named("other", 11));
        let objects = store.read();
        assert_eq!((objects.written.len(), objects.expiring.len()), (1, 1), "the next write takes it away");
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_that_came_after_a_write_is_believed() {
        let store = store();
        store.apply(Event::Apply(web(9)));
        store.wrote(web(10));
        store.apply(Event::Delete(web(11)));
        assert_eq!(known(&store, "web"), None);
        store.wrote(web(13));
        store.apply(Event::Delete(web(12)));
        assert_eq!(known(&store, "web"), Some(13), "it was made anew since");
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_of_writes_to_one_object_is_remembered_as_one() {
        let store = store();
        for version in 1..=1000 {
            store.wrote(web(version));
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        let objects = store.read();
        assert_eq!(objects.written.len(), 1);
        assert!(objects.expiring.len() <= 301, "{}", objects.expiring.len());
    }

    // ---- lists ----

    #[test]
    fn a_list_is_shown_when_it_is_complete_and_replaces_all() {
        let store = store();
        assert_eq!(list(&store, [web(5), named("api", 6)]), ["api", "web"]);
        store.apply(Event::Init);
        store.apply(Event::InitApply(named("api", 6)));
        store.apply(Event::InitApply(named("new", 8)));
        assert_eq!((known(&store, "web"), known(&store, "new")), (Some(5), None), "it is not complete yet");
        assert_eq!(names(store.apply(Event::InitDone)), ["new", "web"], "what came and what went, and nothing else");
        assert_eq!((known(&store, "web"), known(&store, "new")), (None, Some(8)));
        store.apply(Event::Init);
        store.apply(Event::InitApply(web(9)));
        store.apply(Event::Init);
        assert_eq!(names(store.apply(Event::InitDone)), ["api", "new"], "a list that broke off is forgotten");
    }

    #[test]
    fn the_same_again_is_no_news() {
        let store = store();
        store.apply(Event::Apply(web(5)));
        let mut touched = web(5);
        touched.metadata.resource_version = Some("6".to_owned());
        assert_eq!(store.apply(Event::Apply(touched)), []);
        assert_eq!(known(&store, "web"), Some(6), "but it is the version to write to");
        assert_eq!(names(store.apply(Event::Apply(web(7)))), ["web"]);
        assert_eq!(store.apply(Event::Apply(web(6))), [], "the watch is behind");
        assert_eq!(known(&store, "web"), Some(7));
    }

    #[tokio::test]
    async fn every_waiter_is_woken_by_the_first_list() {
        let store = Arc::new(store());
        let waiting: Vec<_> =
            (0..3).map(|_| Arc::clone(&store)).map(|store| tokio::spawn(async move { store.ready().await })).collect();
        tokio::task::yield_now().await;
        list(&store, []);
        for waiting in waiting {
            waiting.await.unwrap();
        }
    }

    // ---- what is kept ----

    #[test]
    fn what_is_kept_comes_back_as_it_was() {
        let whole = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop", "resourceVersion": "340282366920938463463", "labels": {"a": "b"}},
            "spec": {"replicas": 3, "weight": 0.1, "empty": {}, "none": null, "text": "ä\n"},
        });
        let store = store();
        store.apply(Event::Apply(object(whole.clone())));
        let kept = store.get("shop", "web").unwrap();
        let value = store.value(&kept).unwrap();
        assert_eq!(*value, whole);
        assert!(Arc::ptr_eq(&value, &store.value(&kept).unwrap()), "who looks at the same time looks at the same");
    }

    #[test]
    fn a_mark_leads_to_those_that_bear_it_now() {
        let store = store();
        let owned = |name: &str, version: u32, owners: &[&str]| {
            let owners: Vec<_> =
                owners.iter().map(|uid| json!({"apiVersion": "v1", "kind": "Pod", "name": uid, "uid": uid})).collect();
            let mut object = named(name, version);
            object.metadata.owner_references = serde_json::from_value(json!(owners)).unwrap();
            object
        };
        let marked = |mark: &str| {
            let found = store.marked(mark).into_iter();
            found.map(|object| object["metadata"]["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        store.apply(Event::Apply(owned("b", 1, &["u"])));
        store.apply(Event::Apply(owned("a", 2, &["u", "v"])));
        assert_eq!((marked("u"), marked("v")), (vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned()]));
        store.apply(Event::Apply(owned("a", 3, &["v"])));
        store.apply(Event::Delete(owned("b", 4, &["u"])));
        assert_eq!((marked("u"), marked("v")), (vec![], vec!["a".to_owned()]));
        list(&store, [owned("c", 5, &["w"])]);
        assert_eq!((marked("v"), marked("w")), (vec![], vec!["c".to_owned()]));
        list(&store, []);
        assert!(store.read().marked.is_empty());
    }

    #[test]
    fn of_what_nobody_looks_at_there_is_only_the_name() {
        let claims = Arc::new(Claims::default());
        claims.apply(&Event::Apply(canary("one", "web")));
        let store = Store::claimed(deployments(), |_| vec![], Arc::clone(&claims));
        assert_eq!(list(&store, [web(1), named("web-primary", 2), named("api", 3)]), ["web", "web-primary"]);
        let is_stub = |name| (store.is_stub("shop", name), store.shows("shop", name), known(&store, name));
        assert_eq!(is_stub("web"), (false, true, Some(1)));
        assert_eq!(is_stub("api"), (true, true, None));
        assert_eq!(is_stub("none"), (false, false, None));
        assert_eq!(store.apply(Event::Apply(named("api", 4))), [], "it concerns nobody");

        claims.apply(&Event::Apply(canary("two", "api")));
        assert!(is_stub("api").0, "until it is read, or shown");
        assert_eq!(names(store.apply(Event::Apply(named("api", 5)))), ["api"]);
        assert_eq!(is_stub("api"), (false, true, Some(5)));

        claims.apply(&Event::Delete(canary("two", "api")));
        store.apply(Event::Apply(named("api", 6)));
        assert_eq!(known(&store, "api"), Some(6), "a pass that is under way does not lose it from view");
    }

    #[test]
    fn what_bears_a_sign_of_serin_is_kept_whatever_its_name() {
        let store = Store::claimed(deployments(), |_| vec![], Arc::default());
        let mut paused = named("paused", 1);
        paused.annotations_mut().insert("serin.dev/paused-by".to_owned(), "one".to_owned());
        let mut owned = named("owned", 2);
        owned.metadata.owner_references = serde_json::from_value(json!([
            {"apiVersion": "serin.dev/v1beta1", "kind": "Canary", "name": "one", "uid": "u"},
        ]))
        .unwrap();
        list(&store, [paused, owned, named("other", 3)]);
        assert_eq!([known(&store, "paused"), known(&store, "owned"), known(&store, "other")], [Some(1), Some(2), None]);
        assert_eq!(store.holder("shop", "owned").map(|owner| owner.name), Some("one".to_owned()));
    }

    #[test]
    fn what_the_api_server_says_takes_the_place_of_a_mere_name() {
        let stub = || {
            let store = Store::claimed(deployments(), |_| vec![], Arc::default());
            list(&store, [web(5)]);
            store
        };
        let read = stub();
        read.complete("shop", "web", Some(web(6)));
        assert_eq!(known(&read, "web"), Some(6));
        read.apply(Event::Apply(web(5)));
        assert_eq!(known(&read, "web"), Some(6), "the watch is behind what was read");
        read.complete("shop", "web", Some(web(5)));
        read.complete("shop", "web", None);
        assert_eq!(known(&read, "web"), Some(6), "an answer that comes late is no news");

        let gone = stub();
        gone.complete("shop", "web", None);
        assert!(!gone.shows("shop", "web"));
        let old = stub();
        old.complete("shop", "web", Some(web(4)));
        assert!(old.is_stub("shop", "web"), "what is older than the name is not believed");
    }
}
