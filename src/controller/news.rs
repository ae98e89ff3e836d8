//! Tells the passes that wait for an answer that something about their Canary has changed.

use super::claims::NamespacedName;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// Who waits, by the Canary. One that nobody waits for costs nothing.
#[derive(Debug, Default)]
pub struct News {
    waiting: Mutex<HashMap<NamespacedName, watch::Sender<()>>>,
    stopping: watch::Sender<bool>,
}

impl News {
    /// What is told of a Canary from now on.
    pub(super) fn of(&self, namespace: &str, name: &str) -> watch::Receiver<()> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.entry(NamespacedName::new(namespace, name)).or_default().subscribe()
    }

    /// Something about this Canary has changed, and the caches show it.
    pub fn tell(&self, canary: &NamespacedName) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.get(canary).is_some_and(|news| news.send(()).is_err()) {
            waiting.remove(canary);
        }
    }

    /// No pass shall wait any more: the process stops.
    pub(super) fn stop(&self) {
        self.stopping.send_replace(true);
    }

    /// Resolves when no pass shall wait any more.
    pub(super) async fn stopped(&self) {
        // The sender lives as long as `self`.
        let _ = self.stopping.subscribe().wait_for(|stopping| *stopping).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_those_who_wait_are_told_and_only_of_their_own() {
        let news = News::default();
        let (mut web, mut other) = (news.of("shop", "web"), news.of("shop", "other"));
        news.tell(&NamespacedName::new("shop", "web"));
        assert!(web.has_changed().unwrap() && !other.has_changed().unwrap());
        web.changed().await.unwrap();
        drop(web);
        news.tell(&NamespacedName::new("shop", "web"));
        assert_eq!(news.waiting.lock().unwrap().len(), 1, "nobody waits for it any more");
        news.tell(&NamespacedName::new("shop", "unknown"));
        news.stop();
        news.stopped().await;
        news.tell(&NamespacedName::new("shop", "other"));
        other.changed().await.unwrap();
    }
}
