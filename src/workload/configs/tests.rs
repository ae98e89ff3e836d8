use super::*;
use crate::workload::{App, Labelling, ServiceMetadata, ServiceShape, record, recorded_configs, recorded_template};
use proptest::prelude::*;
use std::collections::BTreeSet;

fn app(uid: &str) -> App {
    App {
        namespace: "shop".into(),
        canary: "web".into(),
        target: "web".into(),
        service: "web".into(),
        port: json!({"name": "http", "port": 80}),
        shape: ServiceShape::default(),
        metadata: ServiceMetadata::default(),
        switches: false,
        labelling: Labelling::default(),
        owner: json!({"kind": "Canary", "name": "web", "uid": uid}),
    }
}

/// Refers in every way, to a config of its own each.
fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {
            "imagePullSecrets": [{"name": "registry"}],
            "volumes": [
                {"name": "v1", "configMap": {"name": "map-volume", "items": [{"key": "a", "path": "a"}]}},
                {"name": "v2", "secret": {"secretName": "secret-volume", "defaultMode": 256}},
                {"name": "v3", "projected": {"sources": [
                    {"configMap": {"name": "map-projected"}},
                    {"secret": {"name": "secret-projected", "optional": true}},
                    {"serviceAccountToken": {"path": "token"}},
                ]}},
                {"name": "v4", "emptyDir": {}},
                {"name": "v5", "configMap": {"name": ""}},
            ],
            "initContainers": [{
                "name": "init",
                "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "map-init", "key": "a"}}}],
                "envFrom": [{"secretRef": {"name": "secret-init"}}],
            }],
            "containers": [{
                "name": "main",
                "image": "web:1",
                "env": [
                    {"name": "PLAIN", "value": "1"},
                    {"name": "A", "valueFrom": {"configMapKeyRef": {"name": "map-env", "key": "a", "optional": true}}},
                    {"name": "B", "valueFrom": {"secretKeyRef": {"name": "secret-env", "key": "b"}}},
                    {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                ],
                "envFrom": [{"prefix": "X_", "configMapRef": {"name": "map-all"}}, {"secretRef": {"name": "secret-all"}}],
            }],
            "ephemeralContainers": [{"name": "debug", "envFrom": [{"configMapRef": {"name": "map-debug"}}]}],
        },
    })
}

fn is(checksum: &str) -> Content {
    Content::Is(checksum.into())
}

#[test]
fn every_kind_of_reference_is_found() {
    let references: Vec<_> =
        references(&template()).into_iter().map(|(config, optional)| format!("{config} {optional}")).collect();
    insta::assert_snapshot!(references.join("\n"), @r"
    configmap/map-all false
    configmap/map-env true
    configmap/map-init false
    configmap/map-projected false
    configmap/map-volume false
    secret/secret-all false
    secret/secret-env false
    secret/secret-init false
    secret/secret-projected true
    secret/secret-volume false
    ");
    assert_eq!(super::references(&json!({})), BTreeMap::new());
}

#[test]
fn a_config_is_optional_only_if_every_reference_says_so() {
    let with = |first: bool, second: bool| {
        let env = |optional| json!({"configMapRef": {"name": "settings", "optional": optional}});
        references(&json!({"spec": {"containers": [{"envFrom": [env(first), env(second)]}]}}))
    };
    assert_eq!(with(true, true), [(Config::map("settings"), true)].into());
    assert_eq!(with(true, false), [(Config::map("settings"), false)].into());
    assert_eq!(with(false, true), [(Config::map("settings"), false)].into());
}

#[test]
fn references_are_renamed_and_nothing_else_is() {
    let renamed = renamed(&template(), |config| (config.name != "map-env").then(|| format!("new-{}", config.name)));
    let names: BTreeSet<_> = references(&renamed).into_keys().map(|config| config.to_string()).collect();
    insta::assert_snapshot!(names.into_iter().collect::<Vec<_>>().join("\n"), @r"
    configmap/map-env
    configmap/new-map-all
    configmap/new-map-init
    configmap/new-map-projected
    configmap/new-map-volume
    secret/new-secret-all
    secret/new-secret-env
    secret/new-secret-init
    secret/new-secret-projected
    secret/new-secret-volume
    ");
    let back = super::renamed(&renamed, |config| config.name.strip_prefix("new-").map(str::to_owned));
    assert_eq!(back, template());
}

#[test]
fn without_configs_a_version_is_named_by_its_template_alone() {
    let plain = json!({"spec": {"containers": [{"image": "web:1"}]}});
    let seen = version(&plain, |_| unreachable!("it refers to nothing"));
    assert_eq!(seen.revision.0, object::hash(&plain));
    // It was so before configs were followed: an upgrade must not change it.
    assert_eq!(seen.revision.0, "654ed0b5c3");
    assert_eq!(version(&template(), |_| Content::Shared).revision.0, object::hash(&template()));
    assert_eq!((seen.configs(), seen.incomplete), (Configs::default(), None));
}

#[test]
fn what_is_not_there_is_named() {
    let sentence = |content: fn(&Config) -> Content| version(&template(), content).incomplete;
    assert_eq!(sentence(|_| is("1")), None);
    let missing = |config: &Config| if config.name == "map-all" { Content::Missing } else { is("1") };
    insta::assert_snapshot!(sentence(missing).unwrap(), @"ConfigMap map-all, which the pod template needs, does not exist; create it, or mark the reference as optional");
    let missing = |config: &Config| if config.name.ends_with("-all") { Content::Missing } else { is("1") };
    insta::assert_snapshot!(sentence(missing).unwrap(), @"ConfigMap map-all and Secret secret-all, which the pod template needs, do not exist; create them, or mark the references as optional");
    let unread = |config: &Config| if config.name == "secret-env" { Content::Unread } else { is("1") };
    insta::assert_snapshot!(sentence(unread).unwrap(), @"Secret secret-env could not be read yet");
}

#[test]
fn an_optional_config_that_is_not_there_is_a_version_of_its_own() {
    let optional = Config::map("map-env");
    let with =
        |content: Content| version(&template(), |config| if *config == optional { content.clone() } else { is("1") });
    let (absent, there) = (with(Content::Missing), with(is("2")));
    assert_eq!(absent.incomplete, None);
    assert_eq!(absent.configs[&optional], ABSENT);
    assert_ne!(absent.revision, there.revision);
    assert!(!absent.configs().agree(&there.configs()));
}

#[test]
fn checksums_are_of_the_content_and_of_nothing_else() {
    let map = json!({"data": {"a": "1"}, "metadata": {"resourceVersion": "1"}});
    let checksum = |config: &Value| super::checksum(Kind::ConfigMap, config).unwrap();
    assert_eq!(checksum(&map), checksum(&json!({"data": {"a": "1"}, "binaryData": {}, "immutable": true})));
    assert_eq!(checksum(&json!({})), checksum(&json!({"data": null, "binaryData": {}})));
    assert_ne!(checksum(&map), checksum(&json!({"data": {"a": "2"}})));
    assert_ne!(
        checksum(&map),
        checksum(&json!({"data": {"a": "1"}, "binaryData": {"b": "AAEC"}})),
        "binary data counts"
    );
    assert_ne!(checksum(&json!({"binaryData": {"b": "AAEC"}})), checksum(&json!({"binaryData": {"b": "AAED"}})));
}

#[test]
fn only_secrets_of_the_app_are_part_of_a_version() {
    let checksum = |kind: Option<&str>| super::checksum(Kind::Secret, &json!({"type": kind, "data": {"a": "MQ=="}}));
    let known = ["Opaque", "kubernetes.io/basic-auth", "kubernetes.io/ssh-auth", "kubernetes.io/tls"];
    let sums: BTreeSet<_> = known.into_iter().map(|kind| checksum(Some(kind)).unwrap()).collect();
    assert_eq!(sums.len(), known.len(), "the type is part of it");
    assert_eq!(checksum(None), checksum(Some("Opaque")));
    for shared in ["kubernetes.io/service-account-token", "kubernetes.io/dockerconfigjson", "helm.sh/release.v1"] {
        assert_eq!(checksum(Some(shared)), None);
    }
}

#[test]
fn a_copy_is_the_content_and_cannot_be_changed() {
    let original = json!({
        "kind": "Secret", "type": "kubernetes.io/basic-auth", "data": {"password": "MQ=="},
        "metadata": {"name": "token", "labels": {"team": "blue"}, "annotations": {"team": "blue"}, "uid": "u-9"},
    });
    let made = copy(&app("u-1"), &Config::secret("token"), "token-primary-1", &original);
    insta::assert_yaml_snapshot!(made, @r"
    apiVersion: v1
    data:
      password: MQ==
    immutable: true
    kind: Secret
    metadata:
      annotations:
        helm.toolkit.fluxcd.io/driftDetection: disabled
        kustomize.toolkit.fluxcd.io/reconcile: disabled
        serin.dev/copy-of: token
      labels:
        app.kubernetes.io/managed-by: serin
        serin.dev/canary: web
      name: token-primary-1
      namespace: shop
      ownerReferences:
        - kind: Canary
          name: web
          uid: u-1
    type: kubernetes.io/basic-auth
    ");
    let original = json!({"data": {"a": "1"}, "binaryData": {"b": "AAEC"}, "type": "no field of a ConfigMap"});
    let made = copy(&app("u-1"), &Config::map("settings"), "settings-primary-1", &original);
    assert_eq!(
        (&made["data"], &made["binaryData"], &made["type"]),
        (&original["data"], &original["binaryData"], &Value::Null)
    );
    assert_eq!(checksum(Kind::ConfigMap, &made), checksum(Kind::ConfigMap, &original));
}

#[test]
fn a_copy_is_named_by_content_and_canary() {
    let name = |uid: &str, config: &Config, checksum: &str| copy_name(&app(uid), config, checksum);
    let settings = Config::map("settings");
    let first = name("u-1", &settings, "c1");
    assert!(first.starts_with("settings-primary-"), "{first}");
    assert_eq!(first, name("u-1", &settings, "c1"));
    let others =
        [name("u-1", &settings, "c2"), name("u-2", &settings, "c1"), name("u-1", &Config::secret("settings"), "c1")];
    assert!(others.iter().all(|other| *other != first), "{others:?}");
    for length in [1, 233, 234, 235, 253] {
        let long = Config::map(&"a".repeat(length));
        assert!(name("u-1", &long, "c1").len() <= 253);
    }
    let ends_with_a_dot = Config::map(&format!("{}.{}", "a".repeat(233), "b".repeat(19)));
    assert!(name("u-1", &ends_with_a_dot, "c1").starts_with(&format!("{}-primary-", "a".repeat(233))));
    let two = ["b", "c"].map(|end| name("u-1", &Config::map(&format!("{}{end}", "a".repeat(252))), "c1"));
    assert_ne!(two[0], two[1], "what is cut off is in the hash");
}

#[test]
fn a_record_leads_the_primary_to_the_copies() {
    let content = |config: &Config| match config.name.as_str() {
        "secret-all" => Content::Shared,
        "map-env" => Content::Missing,
        name => is(name),
    };
    let seen = version(&template(), content);
    let record = record(&app("u-1"), &seen.revision, &template(), &seen.configs, 3);
    assert_eq!(record["data"]["template"], template(), "what was analysed is on record as it was");
    let recorded = recorded_configs(&record);
    assert_eq!(recorded.len(), seen.configs.len());
    let primary = recorded_template(&record).unwrap();
    let names: Vec<_> = references(&primary).into_keys().map(|config| config.name).collect();
    let kept: Vec<_> = names.iter().filter(|name| !name.contains("-primary-")).collect();
    assert_eq!(kept, ["secret-all"], "{names:?}");
    let back = renamed(&primary, |config| {
        recorded.iter().find(|recorded| recorded.copy == config.name).map(|recorded| recorded.config.name.clone())
    });
    assert_eq!(back, template());
}

#[test]
fn a_record_without_configs_is_as_it_always_was() {
    let plain = json!({"spec": {}});
    let record = record(&app("u-1"), &Revision("r".into()), &plain, &BTreeMap::new(), 3);
    assert_eq!(record["data"], json!({"template": plain}));
    assert_eq!(recorded_template(&record), Some(plain));
    assert_eq!(recorded_configs(&record), []);
}

/// Contents of the configs that the template refers to, and of another one.
fn contents() -> impl Strategy<Value = BTreeMap<Config, Content>> {
    let content = prop_oneof![
        4 => "[0-9]{1,2}".prop_map(Content::Is),
        1 => Just(Content::Shared),
        1 => Just(Content::Missing),
        1 => Just(Content::Unread),
    ];
    let names: Vec<_> = references(&template()).into_keys().chain([Config::map("unrelated")]).collect();
    prop::collection::vec(content, names.len()).prop_map(move |contents| names.iter().cloned().zip(contents).collect())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_version_is_its_template_and_its_configs(first in contents(), second in contents()) {
        let [one, two] = [&first, &second].map(|contents| version(&template(), |config| contents[config].clone()));
        prop_assert_eq!(one.configs == two.configs, one.revision == two.revision);
        prop_assert_eq!(&one.template, &two.template);
        let mut changed = first;
        changed.insert(Config::map("unrelated"), is("another"));
        prop_assert_eq!(version(&template(), |config| changed[config].clone()), one);
    }

    #[test]
    fn what_is_on_record_can_be_led_there_and_back(contents in contents()) {
        let seen = version(&template(), |config| contents[config].clone());
        let record = record(&app("u-1"), &seen.revision, &template(), &seen.configs, 1);
        let recorded: BTreeMap<_, _> =
            recorded_configs(&record).into_iter().map(|recorded| (recorded.config, recorded.checksum)).collect();
        prop_assert_eq!(&recorded, &seen.configs);
        let led = recorded_template(&record).unwrap();
        let copies: Vec<_> = recorded_configs(&record);
        let original = |config: &Config| {
            copies.iter().find(|recorded| recorded.copy == config.name).map(|recorded| recorded.config.name.clone())
        };
        prop_assert_eq!(renamed(&led, original), template());
    }
}
