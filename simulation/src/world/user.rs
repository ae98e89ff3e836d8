//! What the user does.

use super::{Event, World};
use crate::app::{self, NAME, NAMESPACE, PRIMARY, Quality, SETTINGS, TOKEN};
use crate::checks::By;
use serde_json::{Value, json};
use serin_testing::{CANARIES, CONFIG_MAPS, DEPLOYMENTS, SECRETS};
use std::sync::Arc;

/// The annotation by which orders are given.
const COMMAND: &str = "serin.dev/command";

/// How often the user looks whether everything is at rest, before it is done anyway.
const LOOKS: u32 = 60;

#[derive(Clone, Copy)]
enum Deed {
    Deploy(Quality),
    SetBack,
    Restart,
    Scale,
    Steps,
    Patience,
    Skip,
    Suspend,
    Delete,
    Config,
    EditPrimary,
    Remake,
    Order,
}

impl World {
    /// The user does something, and more of it later.
    pub(super) fn user(&mut self) {
        if self.actions_left == 0 {
            let delay = self.dice.between(0, 90_000);
            return self.agenda.after(delay, Event::Calm);
        }
        self.actions_left -= 1;
        self.act();
        if self.dice.chance(350) {
            let delay = self.dice.between(0, 45_000);
            self.agenda.after(delay, Event::User);
        } else {
            self.agenda.after(5000, Event::UserAtRest(LOOKS));
        }
    }

    pub(super) fn user_at_rest(&mut self, looks: u32) {
        let status = self.status();
        let at_rest = ["Initialized", "Succeeded", "Failed"].contains(&app::text(&status, "/phase"));
        if looks == 0 || (at_rest && app::text(&status, "/canaryPods") == "Down") {
            self.user();
        } else {
            self.agenda.after(5000, Event::UserAtRest(looks - 1));
        }
    }

    fn act(&mut self) {
        let configs = self.scenario.configs;
        let deeds = [
            (40, Deed::Deploy(Quality::Good)),
            (14, Deed::Deploy(Quality::Bad)),
            (4, Deed::Deploy(Quality::Broken)),
            (4, Deed::Deploy(Quality::Stuck)),
            (8, Deed::SetBack),
            (3, Deed::Restart),
            (5, Deed::Scale),
            (if self.scenario.strategy.tests_first() { 0 } else { 5 }, Deed::Steps),
            (3, Deed::Patience),
            (2, Deed::Skip),
            (3, Deed::Suspend),
            (5, Deed::Delete),
            (if configs { 14 } else { 0 }, Deed::Config),
            (2, Deed::EditPrimary),
            (2, Deed::Remake),
            (if self.scenario.orders { 40 } else { 0 }, Deed::Order),
        ];
        match self.dice.weighted(&deeds) {
            Deed::Deploy(quality) => {
                self.deployed += 1;
                let image = quality.image(self.deployed);
                self.deploy(&image);
            }
            Deed::SetBack => {
                let images = self.promoted_images.clone();
                let serves = self.find(DEPLOYMENTS, PRIMARY).map(|primary| app::image(&primary).to_owned());
                let all: Vec<_> = images.into_iter().chain(serves).collect();
                if !all.is_empty() {
                    let image = self.dice.pick(&all).clone();
                    self.deploy(&image);
                }
            }
            Deed::Restart => {
                self.deployed += 1;
                let count = self.deployed;
                self.edit(DEPLOYMENTS, NAME, "restarts the target", |target| {
                    target["spec"]["template"]["metadata"]["annotations"] = json!({"restarted": count.to_string()});
                });
            }
            Deed::Scale => {
                let replicas = self.dice.between(1, 4);
                self.edit(DEPLOYMENTS, NAME, &format!("scales the target to {replicas}"), |target| {
                    target["spec"]["replicas"] = replicas.into();
                });
            }
            Deed::Steps => {
                let steps: &[&[u64]] = &[&[20, 40], &[5, 50, 100], &[70], &[10, 30, 60]];
                let steps = self.dice.pick(steps).to_vec();
                self.edit_spec(&format!("writes the steps {steps:?}"), |spec| {
                    if let Some(analysis) = spec["analysis"].as_object_mut() {
                        analysis.retain(|field, _| !["stepWeight", "maxWeight"].contains(&field.as_str()));
                        analysis.insert("stepWeights".to_owned(), json!(steps));
                    }
                });
            }
            Deed::Patience => {
                let (interval, threshold) = (*self.dice.pick(&["5s", "20s"]), self.dice.between(1, 3));
                self.edit_spec(&format!("writes interval {interval} and threshold {threshold}"), |spec| {
                    spec["analysis"]["interval"] = interval.into();
                    spec["analysis"]["threshold"] = threshold.into();
                });
            }
            Deed::Skip => self.edit_spec("toggles skipAnalysis", |spec| {
                spec["skipAnalysis"] = (spec["skipAnalysis"] != true).into();
            }),
            Deed::Suspend => {
                self.edit_spec("toggles suspend", |spec| spec["suspend"] = (spec["suspend"] != true).into());
            }
            Deed::Delete => self.delete(),
            Deed::Config => self.config(),
            Deed::EditPrimary => {
                self.edit(DEPLOYMENTS, PRIMARY, "edits the primary", |primary| {
                    primary["spec"]["template"]["spec"]["containers"][0]["image"] = "web:0-evil".into();
                });
            }
            Deed::Remake => self.remake(),
            Deed::Order => {
                let order = *self.dice.pick(&["approve", "pause", "resume", "promote", "abort", "retry"]);
                self.order(order);
            }
        }
    }

    fn deploy(&mut self, image: &str) {
        if let Some(primary) = self.find(DEPLOYMENTS, PRIMARY) {
            let serves = app::image(&primary).to_owned();
            if Quality::of(&serves) == Quality::Good && !self.promoted_images.contains(&serves) {
                self.promoted_images.push(serves);
            }
        }
        self.edit(DEPLOYMENTS, NAME, &format!("deploys {image}"), |target| {
            target["spec"]["template"]["spec"]["containers"][0]["image"] = image.into();
        });
    }

    fn config(&mut self) {
        self.deployed += 1;
        let value = format!("value{}", self.deployed);
        let (kind, name) = if self.dice.chance(500) { (CONFIG_MAPS, SETTINGS) } else { (SECRETS, TOKEN) };
        self.edit(kind, name, &format!("writes {value} into {name}"), |config| {
            config["data"]["value"] = value.as_str().into();
        });
    }

    fn delete(&mut self) {
        self.told(|| "the user deletes the Canary".to_owned());
        self.by(By::User, |world| drop(world.server.delete(CANARIES, NAMESPACE, NAME)));
        self.recreates = self.actions_left > 0 || self.dice.chance(500);
        if self.recreates {
            self.agenda.after(2000, Event::Recreate);
        }
    }

    pub(super) fn recreate(&mut self) {
        match self.find(CANARIES, NAME) {
            None => {}
            Some(canary) if canary["metadata"]["deletionTimestamp"].is_null() => return,
            Some(_) => return self.agenda.after(5000, Event::Recreate),
        }
        self.told(|| "the user makes the Canary".to_owned());
        let canary = app::canary(&self.scenario);
        self.put(CANARIES, canary);
    }

    /// The target is deleted and made anew, with another UID and generations from the beginning.
    fn remake(&mut self) {
        let Some(mut target) = self.find(DEPLOYMENTS, NAME).map(Arc::unwrap_or_clone) else { return };
        self.told(|| "the user deletes the target and makes it anew".to_owned());
        self.by(By::User, |world| drop(world.server.delete(DEPLOYMENTS, NAMESPACE, NAME)));
        if let Some(object) = target.as_object_mut() {
            object.remove("status");
        }
        if let Some(metadata) = target["metadata"].as_object_mut() {
            metadata.retain(|field, _| ["name", "namespace", "labels", "annotations"].contains(&field.as_str()));
        }
        target["spec"]["replicas"] = self.scenario.replicas.into();
        self.put(DEPLOYMENTS, target);
    }

    fn order(&mut self, order: &str) {
        if self.find(CANARIES, NAME).is_some() {
            self.checks.ordered(order);
        }
        self.edit(CANARIES, NAME, &format!("orders {order}"), |canary| {
            canary["metadata"]["annotations"][COMMAND] = order.into();
        });
    }

    /// What is suspended, or paused, does not end where it would.
    pub(super) fn resume_spec(&mut self) {
        let is_ordered = |canary: &Value| {
            canary["status"]["paused"] == true || !canary["metadata"]["annotations"][COMMAND].is_null()
        };
        if self.find(CANARIES, NAME).is_some_and(|canary| is_ordered(&canary)) {
            self.order("resume");
        }
        if self.find(CANARIES, NAME).is_some_and(|canary| canary["spec"]["suspend"] == true) {
            self.edit_spec("ends the suspension", |spec| spec["suspend"] = false.into());
        }
    }

    fn edit_spec(&mut self, what: &str, change: impl Fn(&mut Value)) {
        self.edit(CANARIES, NAME, what, |canary| change(&mut canary["spec"]));
    }

    fn edit(&mut self, kind: serin_testing::GroupVersionResource, name: &str, what: &str, change: impl Fn(&mut Value)) {
        self.told(|| format!("the user {what}"));
        // What is not there cannot be edited.
        self.by(By::User, |world| drop(world.server.update(kind, NAMESPACE, name, &change)));
    }
}
