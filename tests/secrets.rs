//! What a Secret holds is seen by nobody. The only test of its process: it listens to everything that is logged in it.

mod common;

use common::app::{self, NAME};
use common::configs::{ENCODED, PASSWORD, with_configs};
use common::prometheus::Says;
use serin_testing::{CANARIES, CONFIG_MAPS, CONTROLLER_REVISIONS, DEPLOYMENTS, EVENTS, Fault, Request, SECRETS, Verb};
use std::io;
use std::sync::{Arc, Mutex};
use tracing_subscriber::fmt::MakeWriter;

#[tokio::test(start_paused = true)]
async fn what_a_secret_holds_is_seen_in_its_copy_and_nowhere_else() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let mut cluster = with_configs().await;
    cluster.put(CANARIES, app::canary());
    cluster.settle().await;
    cluster.edit(SECRETS, "token", |token| token["data"]["user"] = "cm9vdA==".into());
    cluster.settle().await;
    assert_eq!(cluster.phase(), "Succeeded");
    // Refused, lost and garbled on the way, too.
    for fault in [Fault::Fail(403, "Forbidden"), Fault::DropAfter, Fault::DropBefore] {
        let mut left = 4;
        cluster.server.set_faults(move |request| {
            left -= i32::from(request.resource == "secrets");
            if left >= 0 && request.resource == "secrets" { fault } else { Fault::Pass }
        });
        cluster.edit(SECRETS, "token", |token| token["data"]["more"] = format!("{fault:?}").into());
        cluster.settle().await;
    }
    cluster.prometheus.says(Says::Value(0.0));
    cluster.edit(SECRETS, "token", |token| token["data"]["user"] = "YWRtaW4=".into());
    cluster.settle().await;

    let log = log.text();
    assert!(log.contains("Promoting") && log.contains("Unsuccessful"), "the log was captured:\n{log}");
    assert!(!cluster.errors.is_empty());
    let is_copy = |request: &&Request| request.resource == "secrets" && request.verb == Verb::Create;
    let requests = cluster.server.requests();
    assert!(requests.iter().filter(is_copy).any(|request| request.body.to_string().contains(ENCODED)));
    let others: Vec<_> =
        requests.iter().filter(|request| !is_copy(request)).map(|request| format!("{request:?}")).collect();
    for seen in [log, others.concat(), cluster.get(CANARIES, NAME).to_string(), format!("{:?}", cluster.errors)] {
        assert!(!seen.contains(PASSWORD) && !seen.contains(ENCODED));
    }
    for kind in [CONTROLLER_REVISIONS, DEPLOYMENTS, CONFIG_MAPS, EVENTS] {
        assert!(!format!("{:?}", cluster.server.list(kind, None)).contains(ENCODED));
    }
}

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
