//! The ConfigMaps and Secrets of versions: who uses them, what is in them, and the copies for the primary.
//!
//! Invariant: what a Secret holds is read for a Canary that uses it and for nothing else, is kept nowhere but in the copy
//! for the primary, and is in no log: answers with content never go by way of `Api`, which logs what it cannot read.

use super::cache::{Key, version};
use super::claims::NamespacedName;
use super::context::Context;
use super::error::Error;
use super::lanes::Lane;
use super::rollout::{Rollout, config_resource};
use super::store::Change;
use crate::api::MANAGED_BY;
use crate::domain::Revision;
use crate::object;
use crate::workload::configs::{ABSENT, Config, Content, Kind, TRACKING, Version, checksum, copy, references};
use crate::workload::{CANARY, Recorded, configs, recorded_template};
use futures::future::join_all;
use kube::ResourceExt;
use kube::api::{DynamicObject, ObjectMeta, PartialObjectMeta};
use kube::runtime::watcher::Event;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, PoisonError};

/// Where a slim ConfigMap holds the checksum of what it was.
const CHECKSUM: &str = "checksum";

/// Who uses which configs, and the checksums of the Secrets that were read.
#[derive(Default)]
pub(super) struct Followed {
    users: Mutex<Users>,
    read: Mutex<HashMap<Key, Read>>,
}

/// Canaries by the configs that their targets refer to, and the other way round.
#[derive(Default)]
struct Users {
    canaries: HashMap<Key, BTreeSet<String>>,
    configs: HashMap<Key, Vec<Key>>,
}

/// What was in a Secret when it was read.
struct Read {
    uid: String,
    version: u128,
    /// `None` when it is of a type that is not part of versions.
    checksum: Option<String>,
}

impl Followed {
    /// The Canaries that a config is about: those whose targets refer to it, and the one whose copy it is.
    pub(super) fn about(&self, kind: Kind, change: Change) -> Vec<NamespacedName> {
        let Change { object: NamespacedName { namespace, name }, canary } = change;
        let key = Key { resource: config_resource(kind), namespace, name };
        let users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        let users = users.canaries.get(&key).into_iter().flatten().cloned();
        users.chain(canary).map(|canary| NamespacedName::new(&key.namespace, canary)).collect()
    }

    /// Forgets a Canary that is gone.
    pub(super) fn forget(&self, canary: &Key) {
        self.follow(canary, vec![]);
    }

    /// Remembers what a Canary's target refers to, and forgets what it referred to before.
    fn follow(&self, canary: &Key, now: Vec<Key>) {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.configs.get(canary).map_or(&[][..], Vec::as_slice) == now {
            return;
        }
        for key in users.configs.remove(canary).unwrap_or_default().into_iter().filter(|key| !now.contains(key)) {
            if let Some(canaries) = users.canaries.get_mut(&key) {
                canaries.remove(&canary.name);
                if canaries.is_empty() {
                    users.canaries.remove(&key);
                    self.read.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                }
            }
        }
        for key in &now {
            users.canaries.entry(key.clone()).or_default().insert(canary.name.clone());
        }
        if !now.is_empty() {
            users.configs.insert(canary.clone(), now);
        }
    }

    /// What a Secret holds, if it was read since it changed last.
    fn content(&self, key: &Key, seen: &Value) -> Content {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        match read.get(key) {
            Some(read) if seen["metadata"]["uid"] == read.uid && version(seen) <= read.version => {
                read.checksum.clone().map_or(Content::Shared, Content::Is)
            }
            Some(_) | None => Content::Unread,
        }
    }

    fn remember(&self, key: Key, secret: &Value) {
        let uid = secret["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let read = Read { uid, version: version(secret), checksum: checksum(Kind::Secret, secret) };
        self.read.lock().unwrap_or_else(PoisonError::into_inner).insert(key, read);
    }
}

/// The version that a target would be rolled out as, from what is known without asking.
pub(super) fn look(context: &Context, rollout: &Rollout, target: &Value) -> Version {
    let template = rollout.workload.template(target);
    if !context.settings.config_tracking {
        return configs::version(&template, |_| Content::Shared);
    }
    // Before the caches are looked at: what changes from now on wakes the Canary.
    let followed = references(&template).into_keys().map(|config| rollout.config(&config)).collect();
    context.cache.followed.follow(&rollout.key, followed);
    configs::version(&template, |config| content(context, rollout, config))
}

fn content(context: &Context, rollout: &Rollout, config: &Config) -> Content {
    let key = rollout.config(config);
    let Some(found) = context.cache.get(&key) else { return Content::Missing };
    let annotation = |name| object::get(&found, &["metadata", "annotations", name]).and_then(Value::as_str);
    if TRACKING.iter().any(|name| annotation(name) == Some("disabled")) {
        return Content::Shared;
    }
    match config.kind {
        Kind::Secret => context.cache.followed.content(&key, &found),
        Kind::ConfigMap => found[CHECKSUM].as_str().map_or(Content::Unread, |sum| Content::Is(sum.to_owned())),
    }
}

/// The Secrets of the target that have changed since they were read last.
pub(super) fn unread(context: &Context, rollout: &Rollout, target: Option<&Value>) -> Vec<Key> {
    let Some(target) = target.filter(|_| context.settings.config_tracking) else { return vec![] };
    let configs = references(&rollout.workload.template(target)).into_keys();
    let unread =
        configs.filter(|config| config.kind == Kind::Secret && content(context, rollout, config) == Content::Unread);
    unread.map(|config| rollout.config(&config)).collect()
}

/// Reads Secrets.
pub(super) async fn read(context: &Context, secrets: Vec<Key>) -> Result<(), Error> {
    let reads = secrets.into_iter().map(async |key| {
        // If it is gone, its watch will tell.
        if let Some(secret) = context.content(&key).await? {
            context.cache.followed.remember(key, &secret);
        }
        Ok(())
    });
    join_all(reads).await.into_iter().collect()
}

/// Whether the configs of a version are what the API server itself has: a watch that is behind shows what pods do not get
/// that begin now. What is read is remembered. Those without a copy yet are read when it is made.
pub(super) async fn still_so(
    context: &Context,
    rollout: &Rollout,
    configs: &BTreeMap<Config, String>,
) -> Result<(), Error> {
    let is_copied = |(config, sum): &(&Config, &String)| {
        let name = configs::copy_name(&rollout.app, config, sum);
        **sum == ABSENT || context.cache.get(&rollout.config(&Config { kind: config.kind, name })).is_some()
    };
    let reads = configs.iter().filter(is_copied).map(async |(config, sum)| {
        let key = rollout.config(config);
        match config.kind {
            Kind::ConfigMap => drop(context.look_up(Lane::Work, &key).await?),
            Kind::Secret => read(context, vec![key.clone()]).await?,
        }
        let is_same = match content(context, rollout, config) {
            Content::Is(now) => now == *sum,
            Content::Missing => sum == ABSENT,
            Content::Shared | Content::Unread => false,
        };
        if is_same { Ok(()) } else { Err(Error::Supersede(key.to_string())) }
    });
    join_all(reads).await.into_iter().collect()
}

/// Makes the copies of a version's configs, as they are, unless they are there.
pub(super) async fn copies(
    context: &Context,
    rollout: &Rollout,
    configs: &BTreeMap<Config, String>,
) -> Result<(), Error> {
    for (config, sum) in configs.iter().filter(|(_, sum)| *sum != ABSENT) {
        let name = configs::copy_name(&rollout.app, config, sum);
        let key = rollout.config(&Config { kind: config.kind, name: name.clone() });
        if context.cache.get(&key).is_some() {
            continue;
        }
        let source = rollout.config(config);
        let original = context.content(&source).await?;
        // What was seen is what is recorded; what came since is another version.
        let same = |original: &Value| checksum(config.kind, original).as_ref() == Some(sum);
        let Some(original) = original.filter(same) else { return Err(Error::Supersede(source.to_string())) };
        match context.copy(&key, &copy(&rollout.app, config, &name, &original)).await {
            Ok(()) => {}
            Err(error) if error.is_there() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Makes copies of a recorded version anew that somebody deleted, as long as the configs still are what they were.
pub(super) async fn restore(
    context: &Context,
    rollout: &Rollout,
    recorded: &[Recorded],
    seen: &Version,
) -> Result<(), Error> {
    let wanted = recorded.iter().filter(|recorded| {
        let Recorded { config, checksum, copy } = recorded;
        seen.configs.get(config) == Some(checksum) && *copy == configs::copy_name(&rollout.app, config, checksum)
    });
    copies(context, rollout, &wanted.map(|recorded| (recorded.config.clone(), recorded.checksum.clone())).collect())
        .await
}

/// The copies that neither the primary nor the record of any of `versions` refers to; none while pods of the primary are of an
/// older template than its newest, or while one of these records is not shown: the primary may be of that already.
pub(super) fn unused(context: &Context, rollout: &Rollout, versions: &[&Revision]) -> Vec<Key> {
    let Some(primary) = context.cache.get(&rollout.primary()) else { return vec![] };
    let pods = rollout.workload.pods(&primary);
    if !pods.current || pods.total > pods.updated {
        return vec![];
    }
    let mut copies = owned(context, &rollout.uid);
    if copies.is_empty() {
        return vec![];
    }
    let records = versions.iter().map(|revision| rollout.recorded(context, revision));
    let Some(records) = records.collect::<Option<Vec<_>>>() else { return vec![] };
    let template = rollout.workload.template(&primary).into_owned();
    let templates = records.iter().filter_map(|record| recorded_template(record)).chain([template]);
    let in_use: BTreeSet<Config> = templates.flat_map(|template| references(&template).into_keys()).collect();
    copies.retain(|copy| !in_use.contains(copy));
    copies.iter().map(|copy| rollout.config(copy)).collect()
}

/// The copies that somebody owns, by UID, as far as watches show them.
pub(super) fn owned(context: &Context, owner: &str) -> BTreeSet<Config> {
    let names = |kind: Kind| context.cache.marked_names(kind.as_str(), owner);
    Kind::ALL.into_iter().flat_map(|kind| names(kind).into_iter().map(move |name| Config { kind, name })).collect()
}

/// Gives copies to another owner, with which they are to go from now on.
pub(super) async fn hand_over(
    context: &Context,
    rollout: &Rollout,
    copies: impl IntoIterator<Item = Config>,
    from: &str,
    to: &Value,
) -> Result<(), Error> {
    for config in copies {
        let key = rollout.config(&config);
        let Some(found) = context.read(Lane::Work, &key).await? else { continue };
        let mut given = found.clone();
        object::disown(&mut given, from, Some(to));
        if given != found {
            context.change(Lane::Work, &key, &found, &given).await?;
        }
    }
    Ok(())
}

/// Leaves of a ConfigMap or Secret what is looked at: whose it is, whether it is followed, and of a ConfigMap the checksum
/// of what it holds.
pub(super) fn slim_config(kind: Kind, object: &mut DynamicObject) {
    object.data = match kind {
        Kind::ConfigMap => json!({CHECKSUM: checksum(kind, &object.data)}),
        Kind::Secret => json!({}),
    };
    let whole = std::mem::take(&mut object.metadata);
    let kept =
        if whole.labels.as_ref().is_some_and(|labels| labels.contains_key(CANARY)) { whole.labels } else { None };
    let annotations = whole.annotations.map(|mut annotations| {
        annotations.retain(|name, _| TRACKING.contains(&name.as_str()));
        annotations
    });
    object.metadata = ObjectMeta {
        name: whole.name,
        namespace: whole.namespace,
        uid: whole.uid,
        resource_version: whole.resource_version,
        owner_references: whole.owner_references,
        annotations: annotations.filter(|annotations| !annotations.is_empty()),
        labels: kept,
        ..ObjectMeta::default()
    };
}

/// Whether it is a copy that Serin made for a primary.
pub(super) fn is_copy(object: &DynamicObject) -> bool {
    let labels = object.labels();
    labels.contains_key(CANARY) && labels.get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1)
}

/// What a watch of metadata shows, as one of objects would: without content.
pub(super) fn without_content(event: Event<PartialObjectMeta<DynamicObject>>) -> Event<DynamicObject> {
    let object = |meta: PartialObjectMeta<DynamicObject>| DynamicObject {
        types: None,
        metadata: meta.metadata,
        data: json!({}),
    };
    match event {
        Event::Apply(meta) => Event::Apply(object(meta)),
        Event::Delete(meta) => Event::Delete(object(meta)),
        Event::Init => Event::Init,
        Event::InitApply(meta) => Event::InitApply(object(meta)),
        Event::InitDone => Event::InitDone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(resource: Kind, name: &str) -> Key {
        Key { resource: config_resource(resource), namespace: "shop".into(), name: name.into() }
    }

    fn canary(name: &str) -> Key {
        Key { resource: kube::core::ApiResource::erase::<crate::api::Canary>(&()), ..key(Kind::Secret, name) }
    }

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn a_change_wakes_those_who_use_it_now() {
        let followed = Followed::default();
        let settings = Change { object: NamespacedName::new("shop", "settings"), canary: None };
        let awake = |kind| followed.about(kind, settings.clone()).into_iter().map(|user| user.name).collect::<Vec<_>>();
        followed.follow(&canary("a"), vec![key(Kind::ConfigMap, "settings"), key(Kind::Secret, "token")]);
        followed.follow(&canary("b"), vec![key(Kind::ConfigMap, "settings")]);
        assert_eq!(awake(Kind::ConfigMap), ["a", "b"]);
        assert_eq!(awake(Kind::Secret), Vec::<String>::new(), "a Secret of that name is another thing");
        followed.follow(&canary("a"), vec![key(Kind::Secret, "token")]);
        assert_eq!(awake(Kind::ConfigMap), ["b"]);
        let token = key(Kind::Secret, "token");
        followed.remember(token.clone(), &json!({"metadata": {"uid": "u", "resourceVersion": "1"}}));
        followed.follow(&canary("a"), vec![token.clone(), key(Kind::Secret, "more")]);
        assert!(followed.read.lock().unwrap().contains_key(&token), "it is used as before, and not read again");
        followed.follow(&canary("a"), vec![key(Kind::Secret, "more")]);
        assert!(!followed.read.lock().unwrap().contains_key(&token));
        followed.forget(&canary("b"));
        assert_eq!(awake(Kind::ConfigMap), Vec::<String>::new());
        followed.forget(&canary("a"));
        assert!(followed.users.lock().unwrap().canaries.is_empty());
    }

    #[test]
    fn a_copy_wakes_its_canary() {
        let copy = Change { object: NamespacedName::new("shop", "settings-primary-1"), canary: Some("web".to_owned()) };
        assert_eq!(Followed::default().about(Kind::ConfigMap, copy), [NamespacedName::new("shop", "web")]);
    }

    #[test]
    fn a_secret_is_known_until_it_changes() {
        let followed = Followed::default();
        let at = |uid: &str, version: &str| json!({"metadata": {"uid": uid, "resourceVersion": version}});
        let key = key(Kind::Secret, "token");
        assert_eq!(followed.content(&key, &at("u", "7")), Content::Unread);
        let mut secret = at("u", "8");
        secret["data"] = json!({"token": "aHVudGVyMg=="});
        followed.remember(key.clone(), &secret);
        for late_or_now in ["7", "8"] {
            assert!(matches!(followed.content(&key, &at("u", late_or_now)), Content::Is(_)));
        }
        assert_eq!(followed.content(&key, &at("u", "9")), Content::Unread);
        assert_eq!(followed.content(&key, &at("another", "8")), Content::Unread);
        secret["type"] = "kubernetes.io/service-account-token".into();
        followed.remember(key.clone(), &secret);
        assert_eq!(followed.content(&key, &at("u", "8")), Content::Shared);
    }

    #[test]
    fn what_is_cached_of_a_config_is_next_to_nothing() {
        let whole = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "x".repeat(1000)}, "binaryData": {"b": "AAAA"},
            "metadata": {
                "name": "settings", "namespace": "shop", "uid": "u", "resourceVersion": "5", "labels": {"team": "blue"},
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x", "serin.dev/config-tracking": "disabled"},
                "managedFields": [{"manager": "kubectl"}],
            },
        });
        let mut slim = object(whole);
        slim_config(Kind::ConfigMap, &mut slim);
        insta::assert_json_snapshot!(slim, @r#"
        {
          "apiVersion": "v1",
          "kind": "ConfigMap",
          "metadata": {
            "annotations": {
              "serin.dev/config-tracking": "disabled"
            },
            "name": "settings",
            "namespace": "shop",
            "resourceVersion": "5",
            "uid": "u"
          },
          "checksum": "6f388f8c27babbd6"
        }
        "#);
    }

    #[test]
    fn a_watch_of_metadata_shows_no_content() {
        let meta =
            PartialObjectMeta { types: None, metadata: ObjectMeta::default(), _phantom: std::marker::PhantomData };
        let Event::Apply(shown) = without_content(Event::Apply(meta)) else { panic!() };
        assert_eq!(shown.data, json!({}));
    }
}
