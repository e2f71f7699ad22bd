//! "Did you mean": the names that are nearest to one that does not exist.

use prodigy_storage::escape;

/// Names that a message lists.
const SHOWN: usize = 8;
/// A name that is less similar than this is not what was meant; 1 is the same name.
const SIMILAR: f64 = 0.7;

/// Compares the names that exist with the one that was asked for, in bounded memory.
pub(crate) struct Near<'a> {
    wanted: &'a str,
    best: Option<(f64, String)>,
    shown: Vec<String>,
    pub(crate) count: usize,
}

impl<'a> Near<'a> {
    pub(crate) fn to(wanted: &'a str) -> Self {
        Self {
            wanted,
            best: None,
            shown: Vec::new(),
            count: 0,
        }
    }

    /// A name that exists.
    pub(crate) fn offer(&mut self, name: &str) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(format!("`{}`", escape(name)));
        }
        let similarity = strsim::jaro_winkler(self.wanted, name);
        if similarity >= SIMILAR && self.best.as_ref().is_none_or(|(best, _)| similarity > *best) {
            self.best = Some((similarity, name.to_owned()));
        }
    }

    /// The hint of the error: the nearest name, the names that exist, and another way to find out.
    pub(crate) fn hint(&self, names: &str, otherwise: &str) -> String {
        let meant = match &self.best {
            Some((_, best)) => format!("did you mean `{}`? ", escape(best)),
            None => String::new(),
        };
        let there = match self.count.saturating_sub(self.shown.len()) {
            _ if self.count == 0 => format!("there are no {names}; "),
            0 => format!("the {names} are {}; ", self.shown.join(", ")),
            more => format!("the {names} are {} and {more} more; ", self.shown.join(", ")),
        };
        format!("{meant}{there}{otherwise}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_proposed_and_the_list_is_bounded() {
        let mut near = Near::to("mapreduce-71");
        for number in 0..100 {
            near.offer(&format!("mapreduce-{number}"));
        }
        near.offer("zebra");
        let hint = near.hint("jobs", "look elsewhere");
        assert!(
            hint.starts_with("did you mean `mapreduce-71`? the jobs are `mapreduce-0`, "),
            "{hint}"
        );
        assert!(hint.ends_with(" and 93 more; look elsewhere"), "{hint}");
    }

    #[test]
    fn a_name_that_is_like_no_other_is_not_guessed() {
        let mut near = Near::to("x");
        assert_eq!(near.hint("jobs", "look"), "there are no jobs; look");
        near.offer("mapreduce");
        assert_eq!(near.hint("jobs", "look"), "the jobs are `mapreduce`; look");
    }
}
