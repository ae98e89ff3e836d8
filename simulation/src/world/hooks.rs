//! What webhooks say: yes or no, something else, or nothing at all.

use super::{Event, World};
use crate::agenda::Time;
use crate::app::{NAME, Quality};
use crate::checks::PassId;
use http::StatusCode;
use tokio::sync::oneshot;

/// How often those who wait for a webhook are given the time, in milliseconds: they look around every second.
const BEAT: Time = 500;

/// Longer than anybody waits, in milliseconds.
const SILENCE: Time = 60_000;

/// A webhook that was called, and waits for its answer.
pub(super) struct Ringing {
    from: PassId,
    kind: String,
    reply: oneshot::Sender<StatusCode>,
}

/// What a webhook says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Yes,
    No,
    /// It is broken.
    Broken,
    /// Nobody is there.
    Nobody,
}

impl World {
    pub(super) fn called(&mut self, from: PassId, number: u64, kind: String, reply: oneshot::Sender<StatusCode>) {
        self.questions_asked += 1;
        self.count("webhooks");
        let odds = self.faults.hooks;
        let word = if self.dice.chance(odds) {
            let word = *self.dice.pick(&[Word::No, Word::Broken, Word::Broken, Word::Nobody]);
            self.fault("webhook fails", || format!("{kind}: {word:?}"));
            word
        } else {
            self.honest(&kind)
        };
        let (word, delay) = if self.dice.chance(odds) {
            self.fault("webhook hangs", || kind.clone());
            self.checks.answered(from, &kind, false);
            // Not even a process that stood still for so long hears of it.
            (Word::Nobody, SILENCE)
        } else {
            (word, self.dice.between(1, 300))
        };
        self.ringing.insert(number, Ringing { from, kind, reply });
        self.agenda.after(delay, Event::Say(number, word));
        if !std::mem::replace(&mut self.beating, true) {
            self.agenda.after(BEAT, Event::Beat);
        }
    }

    /// What a webhook says that does what it is for.
    fn honest(&mut self, kind: &str) -> Word {
        let bad = self.kubelet.ready(NAME).iter().any(|version| Quality::of(&version.image) == Quality::Bad);
        let yes = match kind {
            "rollback" => bad && self.dice.chance(300),
            "rollout" | "pre-rollout" => !(bad && self.dice.chance(300)),
            "post-rollout" => true,
            _ => self.is_calm || self.dice.chance(700),
        };
        if yes { Word::Yes } else { Word::No }
    }

    pub(super) fn say(&mut self, number: u64, word: Word) {
        let Some(Ringing { from, kind, reply }) = self.ringing.remove(&number) else { return };
        let status = match word {
            Word::Yes => StatusCode::OK,
            Word::No => StatusCode::FORBIDDEN,
            Word::Broken => StatusCode::INTERNAL_SERVER_ERROR,
            // Who asked hears that the connection is broken.
            Word::Nobody => return self.checks.answered(from, &kind, false),
        };
        if reply.send(status).is_ok() {
            self.told(|| format!("webhook {kind} tells process {}: {word:?}", from.0));
            self.checks.answered(from, &kind, word == Word::Yes);
        }
    }

    /// Time passes for those who wait for webhooks.
    pub(super) fn beat(&mut self) {
        self.beating = self.operators.values().any(|operator| operator.running.is_some());
        if self.beating {
            self.agenda.after(BEAT, Event::Beat);
        }
    }
}
