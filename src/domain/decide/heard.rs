//! What was answered to what was asked in this pass. What was not asked is not heard, and what is missing is neither a
//! yes nor a no.

use crate::domain::{Answers, Hook, Plan, Questions, Reply, State, Verdict, World, questions};

/// The answers of a pass, and what they answer.
pub(super) struct Heard<'a> {
    /// What the state as it was recorded asked for: nothing else can have been answered.
    asked: Questions,
    /// What is asked for now that an order may have been taken.
    wanted: Questions,
    answers: &'a Answers,
}

/// What all webhooks of one kind said together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Said<'a> {
    /// They were not asked.
    Nothing,
    /// They were asked, but nobody waited for the answer.
    Missing,
    /// Every one said yes.
    Yes,
    /// One at least said no.
    No(&'a [Reply]),
}

/// What a round of checks came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Round {
    /// Nothing was checked.
    None,
    /// Something was not answered.
    Missing,
    Pass,
    Fail(String),
    Inconclusive(String),
}

impl<'a> Heard<'a> {
    pub(super) fn new(plan: &Plan, recorded: &State, state: &State, seen: &World, answers: &'a Answers) -> Self {
        Self { asked: questions(plan, recorded, seen), wanted: questions(plan, state, seen), answers }
    }

    fn replies(&self, hook: Hook) -> &'a [Reply] {
        let replies = self.answers.hooks.get(&hook).filter(|_| self.asked.hooks.contains(&hook));
        replies.map(Vec::as_slice).unwrap_or_default()
    }

    pub(super) fn hook(&self, hook: Hook) -> Said<'a> {
        match self.replies(hook) {
            _ if !self.wanted.hooks.contains(&hook) => Said::Nothing,
            [] => Said::Missing,
            replies if replies.iter().any(|reply| reply.answer.is_err()) => Said::No(replies),
            _ => Said::Yes,
        }
    }

    /// Why the version is to be taken back, if a rollback webhook says so: one yes is enough.
    pub(super) fn rollback(&self) -> Option<String> {
        let yes = self.replies(Hook::Rollback).iter().find(|reply| reply.answer.is_ok())?;
        Some(format!("the rollback webhook {} asks for it", yes.name))
    }

    /// Whether the rollback webhooks were asked, and none said yes.
    pub(super) fn no_rollback(&self) -> bool {
        matches!(self.hook(Hook::Rollback), Said::No(_))
    }

    /// The metrics and tests together. What is bad decides, whatever is missing.
    pub(super) fn round(&self) -> Round {
        let outcome = self.answers.outcome.as_ref().filter(|_| self.asked.metrics && self.wanted.metrics);
        let verdict = outcome.map(|outcome| (outcome, outcome.verdict()));
        let tests = [Hook::PreRollout, Hook::Rollout].map(|hook| (hook, self.hook(hook)));
        let mut bad: Vec<String> = vec![];
        if let Some((outcome, Verdict::Fail)) = verdict {
            bad.push(outcome.sentences(Verdict::Fail));
        }
        bad.extend(tests.iter().filter_map(|(hook, said)| match said {
            Said::No(replies) => Some(refusals(*hook, replies)),
            Said::Nothing | Said::Missing | Said::Yes => None,
        }));
        let missing = (self.wanted.metrics && verdict.is_none())
            || tests.iter().any(|(_, said)| *said == Said::Missing)
            || self.hook(Hook::Rollback) == Said::Missing;
        let checked = self.wanted.metrics || tests.iter().any(|(_, said)| *said != Said::Nothing);
        match verdict {
            _ if !bad.is_empty() => Round::Fail(bad.join("; ")),
            Some((outcome, Verdict::Inconclusive)) => Round::Inconclusive(outcome.sentences(Verdict::Inconclusive)),
            _ if missing => Round::Missing,
            Some((_, Verdict::Pass | Verdict::Fail)) => Round::Pass,
            None if checked => Round::Pass,
            None => Round::None,
        }
    }
}

/// Who said no, and why.
pub(super) fn refusals(hook: Hook, replies: &[Reply]) -> String {
    let refusal = |reply: &Reply| {
        let why = reply.answer.as_ref().err()?;
        Some(format!("the {} webhook {} said no: {why}", hook.name(), reply.name))
    };
    replies.iter().filter_map(refusal).collect::<Vec<_>>().join("; ")
}
