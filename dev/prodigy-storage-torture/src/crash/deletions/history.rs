//! The reports of all workers, and the conditions that they must meet.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use crate::crash::power::process::Ended;
use crate::crash::section::Tally;

/// A time since the boot, in nanoseconds.
type Nanos = u64;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Born(Nanos),
    Storing { at: Nanos, names: Vec<String> },
    Stored { at: Nanos, stored: bool },
    Deleting(Nanos),
    Deleted { at: Nanos, how: Deleted },
    Looking { at: Nanos, behind: Option<String> },
    Given { at: Nanos, name: String },
    Looked { at: Nanos, last: Nanos, how: End },
    There(BTreeSet<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Deleted {
    Gone,
    Nothing,
    Refused,
    Unclear,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Complete,
    Deleted,
    Gap,
}

/// An event, dead letter or checkpoint that a writer stored or started to store.
#[derive(Debug)]
struct Thing {
    begun: Nanos,
    /// The latest time at which it certainly existed: when it was acknowledged, or last returned to a reader.
    there: Option<Nanos>,
    acknowledged: bool,
}

#[derive(Debug)]
struct Deletion {
    begun: Nanos,
    /// The time at which the deletion returned; if it did not, the time at which its worker ended.
    ended: Nanos,
    how: Deleted,
}

impl Deletion {
    /// True if the deletion certainly happened: at some time the job had no data.
    fn certain(&self) -> bool {
        matches!(self.how, Deleted::Gone | Deleted::Nothing)
    }

    fn possible(&self) -> bool {
        matches!(self.how, Deleted::Gone | Deleted::Unclear)
    }
}

/// A read or a follow of the log, as its reader reported it.
#[derive(Debug)]
struct Look {
    begun: Nanos,
    behind: Option<String>,
    given: Vec<(Nanos, String)>,
    /// How the read ended, when its last step began, and when it ended. `None` if the reader was killed.
    end: Option<(End, Nanos, Nanos)>,
}

/// The reports of all workers.
#[derive(Debug, Default)]
pub(super) struct History {
    things: BTreeMap<String, Thing>,
    deletions: Vec<Deletion>,
    looks: Vec<Look>,
}

/// The names of the data that the final listing found.
pub(super) fn there(ended: &Ended) -> Result<BTreeSet<String>> {
    let last = ended.lines().last().context("it found nothing")?;
    match serde_json::from_slice(last)? {
        Line::There(names) => Ok(names),
        _ => Err(ended.unexpected("the names of all that is there")),
    }
}

impl History {
    /// Adds the reports of consecutive workers of a role.
    pub(super) fn add(&mut self, role: &str, lives: &[Ended]) -> Result<()> {
        let (mut storing, mut deleting) = (Vec::new(), false);
        for line in lives.iter().flat_map(Ended::lines) {
            let shown = || format!("a worker to {role} printed {}", String::from_utf8_lossy(line));
            match serde_json::from_slice(line).with_context(shown)? {
                // The previous worker of this role had ended at this time.
                Line::Born(at) => {
                    if let Some(open) = self.deletions.last_mut().filter(|_| deleting) {
                        open.ended = at;
                    }
                    deleting = false;
                }
                Line::Storing { at, names } => {
                    for name in &names {
                        let thing = Thing {
                            begun: at,
                            there: None,
                            acknowledged: false,
                        };
                        self.things.insert(name.clone(), thing);
                    }
                    storing = names;
                }
                Line::Stored { at, stored } => {
                    for name in storing.drain(..).filter(|_| stored) {
                        let thing = self.things.get_mut(&name).with_context(shown)?;
                        (thing.there, thing.acknowledged) = (Some(at), true);
                    }
                }
                Line::Deleting(begun) => {
                    deleting = true;
                    self.deletions.push(Deletion {
                        begun,
                        ended: Nanos::MAX,
                        how: Deleted::Unclear,
                    });
                }
                Line::Deleted { at, how } => {
                    deleting = false;
                    let open = self.deletions.last_mut().with_context(shown)?;
                    (open.ended, open.how) = (at, how);
                }
                Line::Looking { at, behind } => self.looks.push(Look {
                    begun: at,
                    behind,
                    given: Vec::new(),
                    end: None,
                }),
                Line::Given { at, name } => {
                    let look = self.looks.last_mut().with_context(shown)?;
                    look.given.push((at, name));
                }
                Line::Looked { at, last, how } => {
                    self.looks.last_mut().with_context(shown)?.end = Some((how, last, at));
                }
                Line::There(_) => bail!("{}", shown()),
            }
        }
        Ok(())
    }

    /// Finds a deletion that certainly deleted the job between two times.
    fn certain(&self, after: Nanos, before: Nanos) -> Option<&Deletion> {
        let within = |deletion: &&Deletion| deletion.begun > after && deletion.ended < before;
        self.deletions.iter().filter(|one| one.certain()).find(within)
    }

    /// True if a deletion may have deleted the job between two times.
    fn possible(&self, after: Nanos, before: Nanos) -> bool {
        let overlaps = |deletion: &Deletion| deletion.ended >= after && deletion.begun <= before;
        self.deletions.iter().any(|one| one.possible() && overlaps(one))
    }

    fn thing(&self, name: &str) -> Result<&Thing> {
        self.things
            .get(name)
            .with_context(|| format!("nobody stored {name}"))
    }

    /// Checks all reports, and the names of the data that exists at the end.
    pub(super) fn check(mut self, there: &BTreeSet<String>, tally: &mut Tally) -> Result<()> {
        for (at, name) in self.looks.iter().flat_map(|look| &look.given) {
            let thing = self
                .things
                .get_mut(name)
                .with_context(|| format!("nobody stored {name}"))?;
            thing.there = Some(thing.there.map_or(*at, |there| there.min(*at)));
        }
        self.check_end(there)?;
        for look in &self.looks {
            self.check_look(look).with_context(|| {
                let ends = (look.given.first(), look.given.last());
                format!(
                    "the look at {} behind {:?}, given {ends:?}, ended {:?}",
                    look.begun, look.behind, look.end
                )
            })?;
        }
        let deletions = |how| self.deletions.iter().filter(|one| one.how == how).count();
        let ended = |how| {
            self.looks
                .iter()
                .filter(|look| look.end.is_some_and(|end| end.0 == how))
                .count()
        };
        let acknowledged = self.things.values().filter(|thing| thing.acknowledged).count();
        for (what, number) in [
            (
                "events, dead letters and checkpoints of a job that is deleted again and again",
                acknowledged,
            ),
            ("deletions of it", deletions(Deleted::Gone)),
            ("looks that its deletion ended", ended(End::Deleted)),
            ("cursors of an earlier life that were refused", ended(End::Gap)),
        ] {
            ensure!(number > 0, "this shows nothing: no {what}");
            tally.add(what, number);
        }
        tally.add("deletions of it that were killed", deletions(Deleted::Unclear));
        tally.add(
            "deletions of it that were refused, as it was active",
            deletions(Deleted::Refused),
        );
        tally.add("looks that were complete", ended(End::Complete));
        Ok(())
    }

    /// Checks the data at the end: everything acknowledged after the last deletion exists, and nothing from before
    /// it.
    fn check_end(&self, found: &BTreeSet<String>) -> Result<()> {
        for name in found {
            self.thing(name)?;
        }
        for (name, thing) in &self.things {
            let Some(there) = thing.there else { continue };
            if found.contains(name) {
                let deletion = self.certain(there, Nanos::MAX);
                ensure!(
                    deletion.is_none(),
                    "{name} was there at {there}, and outlived {deletion:?}"
                );
            } else if thing.acknowledged {
                ensure!(
                    self.possible(thing.begun, Nanos::MAX),
                    "{name} was acknowledged at {there}, and is lost: nobody deleted the job later"
                );
            }
        }
        Ok(())
    }

    fn check_look(&self, look: &Look) -> Result<()> {
        let (mut names, mut first) = (BTreeSet::new(), Nanos::MAX);
        if let Some(name) = &look.behind {
            first = self.thing(name)?.there.context("a cursor behind nothing")?;
        }
        for (_, name) in &look.given {
            ensure!(names.insert(name.as_str()), "{name} was given twice");
            let thing = self.thing(name)?;
            let there = thing.there.context("given, and never there")?;
            let stale = self.certain(there, look.begun);
            ensure!(
                stale.is_none(),
                "{name} was given, and had been deleted by {stale:?}"
            );
            let crossed = self.certain(first, thing.begun);
            ensure!(
                crossed.is_none(),
                "{name} was given behind events that were deleted by {crossed:?}"
            );
            first = first.min(there);
        }
        let Some((how, last, ended)) = look.end else {
            return Ok(());
        };
        match how {
            End::Complete => {
                let began = look.given.first().map_or(Nanos::MAX, |(at, _)| *at);
                let unseen = self.certain(began, last);
                ensure!(
                    unseen.is_none(),
                    "it ended as if it were complete, in spite of {unseen:?}"
                );
                let refused = self.certain(first, look.begun).filter(|_| look.behind.is_some());
                ensure!(
                    refused.is_none(),
                    "its cursor was accepted, in spite of {refused:?}"
                );
                for (name, thing) in self.things.iter().filter(|_| look.behind.is_none()) {
                    let before = name.starts_with("event-")
                        && thing.acknowledged
                        && thing.there.is_some_and(|there| there < look.begun);
                    ensure!(
                        !before || names.contains(name.as_str()) || self.possible(thing.begun, ended),
                        "{name} was acknowledged before it, and was not given"
                    );
                }
            }
            // The tombstone of a killed deletion may remain, and refuse reads, until the next write.
            End::Deleted => {
                let remains = |one: &Deletion| one.how == Deleted::Unclear && one.begun <= ended;
                ensure!(
                    self.possible(look.begun, ended) || self.deletions.iter().any(remains),
                    "nobody deleted the job meanwhile"
                );
            }
            End::Gap => {
                let name = look
                    .behind
                    .as_ref()
                    .or_else(|| look.given.last().map(|(_, name)| name));
                let thing = self.thing(name.context("a gap behind nothing")?)?;
                ensure!(
                    self.possible(thing.begun, ended),
                    "nobody deleted the job behind its cursor"
                );
            }
        }
        Ok(())
    }
}
