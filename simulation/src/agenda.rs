//! What is going to happen, and when.
//!
//! Invariant: what is to happen at the same millisecond happens in the order in which it was decided.

use std::collections::BTreeMap;

/// Milliseconds since the beginning.
pub(crate) type Time = u64;

/// The events to come.
pub(crate) struct Agenda<Event> {
    now: Time,
    decided: u64,
    events: BTreeMap<(Time, u64), Event>,
}

impl<Event> Agenda<Event> {
    pub(crate) fn new() -> Self {
        Self { now: 0, decided: 0, events: BTreeMap::new() }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// Has something happen after so many milliseconds.
    pub(crate) fn after(&mut self, delay: Time, event: Event) {
        self.decided += 1;
        self.events.insert((self.now + delay, self.decided), event);
    }

    /// The next event; it is its time then.
    pub(crate) fn pop(&mut self) -> Option<Event> {
        let ((time, _), event) = self.events.pop_first()?;
        self.now = time;
        Some(event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_by_time_and_then_in_the_order_of_their_decision() {
        let mut agenda = Agenda::new();
        for (delay, event) in [(5, 'c'), (1, 'a'), (5, 'd'), (1, 'b')] {
            agenda.after(delay, event);
        }
        let events: Vec<_> = std::iter::from_fn(|| agenda.pop()).collect();
        assert_eq!((events, agenda.now()), (vec!['a', 'b', 'c', 'd'], 5));
    }
}
