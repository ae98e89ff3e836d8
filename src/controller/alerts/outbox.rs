//! Where alerts wait: a queue that never makes anybody wait.
//!
//! Invariant: putting an alert in takes no time and cannot fail. Each recipient gets its alerts one after the other, in
//! the order in which things happened, and one that hangs delays no other. Everything has a limit; what is beyond it is
//! dropped, counted and logged.

use super::courier::Courier;
use super::settings::AlertSettings;
use super::{Alert, Recipient};
use crate::api::AlertProvider;
use crate::controller::egress::Egress;
use crate::controller::scoped::Scoped;
use crate::controller::secrets::Secrets;
use crate::controller::webhooks::Caller;
use crate::telemetry::Metrics;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use kube::runtime::reflector::Store;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Alerts on their way from passes to the queues: as many passes as may run, with a note or two and a few recipients each.
const ENTRANCE: usize = 1024;

/// Alerts that wait for one recipient: more than a rollout has transitions.
const WAITING: usize = 64;

/// Alerts that wait in all, each about two kilobytes.
const WAITING_IN_ALL: usize = 2048;

/// Alerts that are sent at the same time.
const SENDING: usize = 16;

/// How long the last alerts may take when the process stops.
const LAST: Duration = Duration::from_secs(3);

/// Takes alerts from passes.
pub struct Outbox {
    entrance: mpsc::Sender<Alert>,
    courier: Arc<Courier>,
}

/// The alerts that are still to be sent.
#[derive(Debug)]
pub struct Deliveries {
    close: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Outbox {
    /// Begins to deliver what is put in.
    pub(in crate::controller) fn open(
        secrets: Secrets,
        settings: &AlertSettings,
        providers: impl Into<Scoped<Store<AlertProvider>>>,
        doors: (Egress, Arc<Caller>),
        metrics: Arc<Metrics>,
    ) -> (Self, Deliveries) {
        let courier = Arc::new(Courier::new(secrets, settings.clone(), providers.into(), doors, metrics));
        let (entrance, arriving) = mpsc::channel(ENTRANCE);
        let (close, closed) = oneshot::channel();
        let (sending, dropping) = (Arc::clone(&courier), Arc::clone(&courier));
        let deliver = move |alert| {
            let courier = Arc::clone(&sending);
            async move { courier.deliver(alert).await }.boxed()
        };
        let queues = Queues::new(deliver, move |alert| dropping.discard(alert));
        let task = tokio::spawn(queues.run(arriving, closed));
        (Self { entrance, courier }, Deliveries { close, task })
    }

    pub(super) fn put(&self, alert: Alert) {
        self.courier.metrics.alert_raised();
        if let Err(mpsc::error::TrySendError::Full(alert) | mpsc::error::TrySendError::Closed(alert)) =
            self.entrance.try_send(alert)
        {
            self.courier.discard(&alert);
        }
    }

    pub(super) fn settings(&self) -> &AlertSettings {
        &self.courier.settings
    }
}

impl Deliveries {
    /// Takes no more alerts, and gives those that wait a last moment.
    pub async fn finish(self) {
        let Self { close, mut task } = self;
        // Whether anybody listens shows below.
        let _ = close.send(());
        if timeout(LAST, &mut task).await.is_err() {
            tracing::warn!("some alerts were not sent in time before the stop");
            task.abort();
        }
    }
}

/// What waits, by recipient.
struct Queues<Deliver, Discard> {
    deliver: Deliver,
    discard: Discard,
    /// A recipient is in here as long as it is being told, or something waits for it.
    waiting: BTreeMap<Recipient, VecDeque<Alert>>,
    /// Recipients that something waits for and that are not being told, in the order in which their turn comes.
    idle: VecDeque<Recipient>,
    sending: FuturesUnordered<BoxFuture<'static, Recipient>>,
}

impl<Deliver, Discard> Queues<Deliver, Discard>
where
    Deliver: Fn(Alert) -> BoxFuture<'static, ()> + Send,
    Discard: Fn(&Alert) + Send,
{
    fn new(deliver: Deliver, discard: Discard) -> Self {
        Self { deliver, discard, waiting: BTreeMap::new(), idle: VecDeque::new(), sending: FuturesUnordered::new() }
    }

    async fn run(mut self, mut arriving: mpsc::Receiver<Alert>, mut closed: oneshot::Receiver<()>) {
        let (mut is_open, mut is_wanted) = (true, true);
        while is_open || !self.sending.is_empty() {
            tokio::select! {
                alert = arriving.recv(), if is_open => match alert {
                    Some(alert) => self.take(alert),
                    None => is_open = false,
                },
                Some(recipient) = self.sending.next(), if !self.sending.is_empty() => self.told(recipient),
                _ = &mut closed, if is_wanted => {
                    is_wanted = false;
                    arriving.close();
                }
            }
            self.send();
        }
    }

    fn take(&mut self, alert: Alert) {
        let in_all: usize = self.waiting.values().map(VecDeque::len).sum();
        let is_new = !self.waiting.contains_key(&alert.to);
        let queue = self.waiting.entry(alert.to.clone()).or_default();
        if queue.len() >= WAITING || in_all >= WAITING_IN_ALL {
            (self.discard)(&alert);
            if is_new {
                self.waiting.remove(&alert.to);
            }
            return;
        }
        if is_new {
            self.idle.push_back(alert.to.clone());
        }
        queue.push_back(alert);
    }

    fn send(&mut self) {
        while self.sending.len() < SENDING
            && let Some(recipient) = self.idle.pop_front()
        {
            if let Some(alert) = self.waiting.get_mut(&recipient).and_then(VecDeque::pop_front) {
                let sent = (self.deliver)(alert);
                self.sending.push(sent.map(|()| recipient).boxed());
            }
        }
    }

    fn told(&mut self, recipient: Recipient) {
        if self.waiting.get(&recipient).is_some_and(|queue| !queue.is_empty()) {
            self.idle.push_back(recipient);
        } else {
            self.waiting.remove(&recipient);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::{Message, Severity};
    use jiff::Timestamp;
    use std::sync::Mutex;
    use tokio::time::{Instant, sleep};

    fn alert(name: &str, text: usize) -> Alert {
        let message = Message {
            id: String::new(),
            time: Timestamp::UNIX_EPOCH,
            cluster: None,
            namespace: String::new(),
            canary: String::new(),
            target: String::new(),
            severity: Severity::Info,
            reason: String::new(),
            text: text.to_string(),
            phase: String::new(),
            weight: 0,
            step: None,
            revision: None,
            checks: vec![],
        };
        let to = Recipient::Provider { namespace: "shop".into(), name: name.to_owned() };
        Alert { to, message: Arc::new(message), call: None }
    }

    fn line(alert: &Alert) -> String {
        let Recipient::Provider { name, .. } = &alert.to else { panic!("only providers here") };
        format!("{name} {}", alert.message.text)
    }

    type Lines = Arc<Mutex<Vec<String>>>;

    struct Post {
        entrance: mpsc::Sender<Alert>,
        close: oneshot::Sender<()>,
        task: JoinHandle<()>,
        sent: Lines,
        dropped: Lines,
    }

    /// Delivers at once, but for recipients that begin with `slow`, which take a minute each.
    fn post() -> Post {
        let (sent, dropped) = (Lines::default(), Lines::default());
        let (notes, lost) = (Arc::clone(&sent), Arc::clone(&dropped));
        let deliver = move |alert: Alert| {
            let notes = Arc::clone(&notes);
            async move {
                if line(&alert).starts_with("slow") {
                    sleep(Duration::from_mins(1)).await;
                }
                notes.lock().unwrap().push(line(&alert));
            }
            .boxed()
        };
        let (entrance, arriving) = mpsc::channel(ENTRANCE * 4);
        let (close, closed) = oneshot::channel();
        let queues = Queues::new(deliver, move |alert: &Alert| lost.lock().unwrap().push(line(alert)));
        let task = tokio::spawn(queues.run(arriving, closed));
        Post { entrance, close, task, sent, dropped }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_hangs_delays_no_other_and_each_is_told_in_order() {
        let Post { entrance, task, sent, dropped, .. } = post();
        let began = Instant::now();
        for number in 0..20 {
            entrance.try_send(alert("slow", number)).unwrap();
            entrance.try_send(alert("quick", number)).unwrap();
        }
        sleep(Duration::from_secs(1)).await;
        let quick: Vec<_> = (0..20).map(|number| format!("quick {number}")).collect();
        assert_eq!(*sent.lock().unwrap(), quick);
        sent.lock().unwrap().clear();
        drop(entrance);
        task.await.unwrap();
        let slow: Vec<_> = (0..20).map(|number| format!("slow {number}")).collect();
        assert_eq!(*sent.lock().unwrap(), slow);
        assert_eq!(began.elapsed().as_secs(), 20 * 60, "one after the other");
        assert!(dropped.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_too_much_is_dropped() {
        let Post { entrance, task, sent, dropped, .. } = post();
        for number in 0..100 {
            entrance.try_send(alert("slow", number)).unwrap();
        }
        for recipient in 0..50 {
            for number in 0..60 {
                entrance.try_send(alert(&format!("slow-{recipient}"), number)).unwrap();
            }
        }
        drop(entrance);
        task.await.unwrap();
        let of_one = sent.lock().unwrap().iter().filter(|line| line.starts_with("slow ")).count();
        assert!((WAITING..=WAITING + 1).contains(&of_one), "{of_one}");
        let (sent, dropped) = (sent.lock().unwrap().len(), dropped.lock().unwrap().len());
        assert_eq!(sent + dropped, 100 + 50 * 60);
        assert!(sent <= WAITING_IN_ALL + SENDING, "{sent}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_a_few_are_told_at_the_same_time() {
        let Post { entrance, task, sent, .. } = post();
        for recipient in 0..2 * SENDING {
            entrance.try_send(alert(&format!("slow-{recipient}"), 0)).unwrap();
        }
        sleep(Duration::from_secs(61)).await;
        assert_eq!(sent.lock().unwrap().len(), SENDING);
        drop(entrance);
        task.await.unwrap();
        assert_eq!(sent.lock().unwrap().len(), 2 * SENDING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_sends_what_waits_and_waits_no_longer_than_that() {
        let Post { entrance, task, sent, close, .. } = post();
        entrance.try_send(alert("quick", 1)).unwrap();
        Deliveries { close, task }.finish().await;
        assert_eq!(*sent.lock().unwrap(), ["quick 1"]);
        assert!(entrance.try_send(alert("quick", 2)).is_err());

        let Post { entrance, task, close, .. } = post();
        entrance.try_send(alert("slow", 1)).unwrap();
        let began = Instant::now();
        Deliveries { close, task }.finish().await;
        assert_eq!(began.elapsed(), LAST);
    }
}
