//! A status that somebody edited is a state, which can be decided upon and recorded, or a sentence.
#![no_main]

use jiff::{SignedDuration, Timestamp};
use libfuzzer_sys::fuzz_target;
use serin::api::{CanarySpec, CanaryStatus, Defaults, plan, record, state};
use serin::domain::{Acceptance, Answers, Pods, Primary, Revision, Routing, TargetSeen, Weight, World, decide};

const SPEC: &str = r#"{
    "targetRef": {"kind": "Deployment", "name": "web"}, "service": {"port": 80},
    "analysis": {"interval": "10s", "threshold": 2, "stepWeights": [10, 50]}
}"#;

fuzz_target!(|text: &[u8]| {
    let Ok(status) = serde_json::from_slice::<CanaryStatus>(text) else { return };
    let spec: CanarySpec = serde_json::from_str(SPEC).expect("it is a spec");
    let defaults = Defaults { drain_delay: SignedDuration::from_secs(5), route_grace: SignedDuration::from_secs(5) };
    let plan = plan(&spec, &defaults).expect("it is a plan");
    let now = Timestamp::from_second(1_800_000_000).expect("it is a time");
    let state = match state(Some(&status), now) {
        Ok(state) => state,
        Err(invalid) => return assert!(invalid.to_string().contains(' '), "{invalid}"),
    };
    let pods = Pods { wanted: 2, updated: 2, available: 2, total: 2, current: true };
    let seen = World {
        now,
        deleted: false,
        command: None,
        target: Some(TargetSeen {
            revision: Revision("b".into()),
            template: Revision("b".into()),
            configs: Default::default(),
            incomplete: None,
            generation: 2,
            uid: "u".into(),
            replicas: 2,
            pods,
        }),
        primary: Some(Primary { revision: Some(Revision("a".into())), pods }),
        apex_on_primary: true,
        routing: Routing::Split(Weight::ZERO, Acceptance::Accepted),
    };
    let decision = decide(&plan, &state, &seen, &Answers::default());
    let written = record(Some(&status), &plan, &decision, None, Some(1), now);
    let read = serin::api::state(Some(&written), now).expect("what Serin writes it can read");
    assert_eq!(read, decision.state);
});
