//! Questions to metric providers: one that many ask at the same time is sent once, and never too many at once to the same
//! provider.
//!
//! Invariant: nobody gets an answer to a question that was sent more than [`FRESH`] before he asked. No version is checked
//! sooner than an interval after its weight was set, and no interval is that short, so the answer to a check is about the
//! version and the weight that are checked. A provider that is slow has its own places, and takes none from others.

use super::observe::Network;
use crate::domain::{Answer, Unknown};
use crate::metrics::Query;
use crate::telemetry::Metrics;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use reqwest::Url;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};

/// How long after a question was sent its answer is shared with those who ask the same.
const FRESH: Duration = Duration::from_millis(100);

/// Questions under way.
pub(super) struct Inquiries {
    /// How many may be under way to one provider.
    at_once: usize,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    questions: HashMap<Arc<Query>, Question>,
    /// By the provider's origin. One that nobody asks has none.
    places: HashMap<String, Arc<Semaphore>>,
}

/// A question under way.
#[derive(Clone)]
struct Question {
    answer: Shared<BoxFuture<'static, Answer>>,
    /// When it was sent; empty while it waits for its place.
    sent: Arc<OnceLock<Instant>>,
}

impl Inquiries {
    /// At most so many questions at a time to each provider.
    pub(super) fn new(at_once: usize) -> Self {
        Self { at_once, open: Mutex::default() }
    }

    /// Asks, or waits with those who have just asked the same.
    ///
    /// # Errors
    /// Everything that is not one number, as a sentence.
    pub(super) async fn ask(&self, way: Way, query: Query) -> Answer {
        // Dropped after its question, whichever way that ends.
        let asker = Asker { inquiries: self, query: Arc::new(query) };
        let question = self.question(&asker.query, way);
        question.answer.await
    }

    /// The question that is under way, or a new one.
    fn question(&self, query: &Arc<Query>, way: Way) -> Question {
        let mut open = self.open();
        if let Some(question) = open.questions.get(query).filter(|question| question.is_fresh()) {
            return question.clone();
        }
        let places = open.places.entry(origin(query)).or_insert_with(|| Arc::new(Semaphore::new(self.at_once)));
        let sent = Arc::default();
        let answer = way.send(Arc::clone(query), Arc::clone(places), Arc::clone(&sent)).boxed().shared();
        let question = Question { answer, sent };
        open.questions.insert(Arc::clone(query), question.clone());
        question
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question {
    /// Whether its answer will be new enough for those who ask now.
    fn is_fresh(&self) -> bool {
        self.sent.get().is_none_or(|sent| sent.elapsed() <= FRESH)
    }

    /// Whether nobody is going to wait for it.
    fn is_over(&self) -> bool {
        // One of those who hold it is the list itself.
        self.answer.peek().is_some() || self.answer.strong_count().is_none_or(|holders| holders <= 1)
    }
}

/// How a question gets to a provider.
pub(super) struct Way {
    pub(super) network: Arc<dyn Network>,
    pub(super) metrics: Arc<Metrics>,
    /// How long the provider has to answer, and how long is waited for a place before.
    pub(super) limit: Duration,
}

impl Way {
    async fn send(self, query: Arc<Query>, places: Arc<Semaphore>, sent: Arc<OnceLock<Instant>>) -> Answer {
        let Self { network, metrics, limit } = self;
        let Ok(place) = timeout(limit, places.acquire()).await else {
            metrics.query("busy", limit);
            return Err(Unknown::NotAsked(format!(
                "{} is busy: the questions before this one were not answered within {limit:?}; see --query-concurrency",
                query.address
            )));
        };
        let started = Instant::now();
        // It is sent once.
        let _ = sent.set(started);
        let answer = network.query(&query, limit).await;
        drop(place);
        metrics.query(if answer.is_ok() { "ok" } else { "error" }, started.elapsed());
        answer
    }
}

/// Somebody who waits for an answer, until it is dropped.
struct Asker<'a> {
    inquiries: &'a Inquiries,
    query: Arc<Query>,
}

impl Drop for Asker<'_> {
    /// What nobody waits for is forgotten.
    fn drop(&mut self) {
        let mut open = self.inquiries.open();
        if open.questions.get(&self.query).is_some_and(Question::is_over) {
            open.questions.remove(&self.query);
        }
        let origin = origin(&self.query);
        if open.places.get(&origin).is_some_and(|places| Arc::strong_count(places) <= 1) {
            open.places.remove(&origin);
        }
    }
}

/// Who answers: whatever the path, it is the same server.
fn origin(query: &Query) -> String {
    Url::parse(&query.address).map_or_else(|_| query.address.clone(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Credentials;
    use futures::future::join_all;
    use tokio::time::{advance, sleep};

    /// A provider that answers the nth question with n after a while, and never at one address.
    struct Provider {
        after: Duration,
        asked: Mutex<Vec<Query>>,
        open: Mutex<(usize, usize)>,
    }

    impl Network for Provider {
        fn query<'a>(&'a self, query: &'a Query, limit: Duration) -> BoxFuture<'a, Answer> {
            async move {
                let count = {
                    let mut asked = self.asked.lock().unwrap();
                    asked.push(query.clone());
                    asked.len()
                };
                {
                    let mut open = self.open.lock().unwrap();
                    *open = (open.0 + 1, open.1.max(open.0 + 1));
                }
                sleep(if query.address.contains("slow") { limit + LATER } else { self.after }).await;
                self.open.lock().unwrap().0 -= 1;
                Ok(f64::from(u32::try_from(count).unwrap()))
            }
            .boxed()
        }
    }

    struct Desk {
        inquiries: Inquiries,
        provider: Arc<Provider>,
    }

    const LIMIT: Duration = Duration::from_secs(5);

    /// What it takes to give up.
    const LATER: Duration = Duration::from_millis(1);

    impl Desk {
        fn new(at_once: usize, after: Duration) -> Self {
            let provider = Provider { after, asked: Mutex::default(), open: Mutex::default() };
            Self { inquiries: Inquiries::new(at_once), provider: Arc::new(provider) }
        }

        fn ask(&self, query: Query) -> impl Future<Output = Answer> {
            let network = Arc::clone(&self.provider) as Arc<dyn Network>;
            self.inquiries.ask(Way { network, metrics: Arc::new(Metrics::new()), limit: LIMIT }, query)
        }

        fn sent(&self) -> usize {
            self.provider.asked.lock().unwrap().len()
        }

        fn is_forgetful(&self) -> bool {
            let open = self.inquiries.open();
            open.questions.is_empty() && open.places.is_empty()
        }
    }

    fn question(address: &str, text: &str) -> Query {
        Query {
            address: address.to_owned(),
            text: text.to_owned(),
            headers: vec![],
            insecure_skip_verify: false,
            credentials: None,
        }
    }

    fn up() -> Query {
        question("http://prometheus:9090", "up")
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_many_ask_at_the_same_time_is_sent_once() {
        let desk = Desk::new(4, Duration::from_millis(50));
        let answers = join_all((0..100).map(|_| desk.ask(up()))).await;
        assert!(answers.iter().all(|answer| *answer == Ok(1.0)));
        assert_eq!(desk.sent(), 1);
        assert!(desk.is_forgetful());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_gets_an_answer_to_a_question_that_was_sent_long_before_he_asked() {
        let desk = Desk::new(4, Duration::from_secs(1));
        let first = desk.ask(up());
        let soon = async {
            sleep(FRESH).await;
            desk.ask(up()).await
        };
        let late = async {
            sleep(FRESH + Duration::from_millis(1)).await;
            desk.ask(up()).await
        };
        let later = async {
            sleep(FRESH * 2).await;
            desk.ask(up()).await
        };
        let (first, soon, late, later) = futures::join!(first, soon, late, later);
        assert_eq!([first, soon, late, later], [Ok(1.0), Ok(1.0), Ok(2.0), Ok(2.0)]);
        assert!(FRESH * 5 <= Duration::from_secs(1), "the shortest interval: a version's first check is no such asker");
        assert!(desk.is_forgetful());
    }

    #[tokio::test(start_paused = true)]
    async fn a_question_that_has_no_place_yet_is_as_new_as_can_be() {
        let desk = Desk::new(1, Duration::from_secs(1));
        let other = desk.ask(question("http://prometheus:9090", "down"));
        let first = desk.ask(up());
        let second = async {
            sleep(Duration::from_millis(900)).await;
            desk.ask(up()).await
        };
        let (other, first, second) = futures::join!(other, first, second);
        assert_eq!([other, first, second], [Ok(1.0), Ok(2.0), Ok(2.0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_an_answer_depends_on_makes_it_another_question() {
        let desk = Desk::new(16, Duration::from_millis(50));
        let questions = [
            up(),
            question("http://prometheus:9091", "up"),
            question("http://prometheus:9090/tenant", "up"),
            question("http://prometheus:9090", "up{app=\"web\"}"),
            Query { headers: vec![("x-scope-orgid".into(), "blue".into())], ..up() },
            Query { insecure_skip_verify: true, ..up() },
            Query { credentials: Some(Credentials::Bearer("token".into())), ..up() },
            Query { credentials: Some(Credentials::Bearer("other".into())), ..up() },
        ];
        join_all(questions.iter().cloned().map(|query| desk.ask(query))).await.into_iter().for_each(drop);
        assert_eq!(desk.sent(), questions.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_provider_takes_places_from_nobody_else() {
        let desk = Desk::new(2, Duration::from_millis(50));
        let slow = (0..6).map(|number| desk.ask(question("http://slow", &number.to_string())));
        let slow = join_all(slow);
        let began = Instant::now();
        let quick = async {
            sleep(Duration::from_millis(1)).await;
            (desk.ask(up()).await, began.elapsed())
        };
        let (slow, (quick, after)) = futures::join!(slow, quick);
        assert_eq!((quick, after), (Ok(3.0), Duration::from_millis(51)));
        assert_eq!(slow.iter().filter(|answer| answer.is_ok()).count(), 2);
        let busy = slow.into_iter().find_map(Result::err).unwrap().to_string();
        let expected =
            "http://slow is busy: the questions before this one were not answered within 5s; see --query-concurrency";
        assert_eq!(busy, expected);
        assert_eq!(began.elapsed(), LIMIT + LATER, "the wait for a place has an end");
        assert_eq!(desk.provider.open.lock().unwrap().1, 3, "two there, and one elsewhere");
        assert!(desk.is_forgetful());
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_place_is_no_part_of_the_time_to_answer() {
        let desk = Desk::new(1, Duration::from_millis(4900));
        let answers = join_all(["a", "b"].map(|text| desk.ask(question("http://prometheus", text)))).await;
        assert_eq!(answers, [Ok(1.0), Ok(2.0)]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_up_leaves_the_question_to_the_others() {
        let desk = Desk::new(1, Duration::from_secs(1));
        let mut first = Box::pin(desk.ask(up()));
        assert!(futures::poll!(&mut first).is_pending());
        let mut second = Box::pin(desk.ask(up()));
        assert!(futures::poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await, Ok(1.0));
        assert!(desk.is_forgetful());
        let mut alone = Box::pin(desk.ask(up()));
        assert!(futures::poll!(&mut alone).is_pending());
        advance(Duration::from_millis(1)).await;
        drop(alone);
        assert!(desk.is_forgetful(), "nobody waits for it");
        assert_eq!(desk.ask(up()).await, Ok(3.0), "its place is free again");
    }
}
