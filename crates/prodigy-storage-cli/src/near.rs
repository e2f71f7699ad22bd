//! "Did you mean": finds the existing names that are most similar to an unknown one.

use prodigy_storage::escape;

/// The largest number of names that a message lists.
const SHOWN: usize = 8;
/// The least similarity of a suggested name; equal names have 1.
const SIMILAR: f64 = 0.7;

/// Compares existing names with the unknown one, in bounded memory.
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

    /// Adds an existing name.
    pub(crate) fn offer(&mut self, name: &str) {
        self.offer_as(name, name);
    }

    /// Adds an existing name, for which the message prints another text.
    pub(crate) fn offer_as(&mut self, name: &str, shown: &str) {
        self.count += 1;
        if self.shown.len() < SHOWN {
            self.shown.push(format!("`{}`", escape(shown)));
        }
        let similarity = strsim::jaro_winkler(self.wanted, name);
        if similarity >= SIMILAR && self.best.as_ref().is_none_or(|(best, _)| similarity > *best) {
            self.best = Some((similarity, shown.to_owned()));
        }
    }

    /// The hint for the error message: the most similar name, some existing names, and another way to find the name.
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
