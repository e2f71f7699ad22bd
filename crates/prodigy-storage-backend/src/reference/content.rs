//! The contents that a document may have after a crash.

use std::fmt;

use super::{Certainty, Mismatch};

/// The contents that a document may have after a crash; `None` is an absent document.
#[derive(Clone, Debug)]
pub struct Content<T> {
    stable: Option<T>,
    /// Later contents in order. After a power loss each may be undone; a flush of the named process makes its last
    /// one durable.
    later: Vec<(Option<T>, Option<u32>)>,
}

impl<T> Default for Content<T> {
    fn default() -> Self {
        Self {
            stable: None,
            later: Vec::new(),
        }
    }
}

impl<T: PartialEq + fmt::Display> Content<T> {
    /// Records that the document was written, or was deleted for `None`.
    pub fn put(&mut self, value: Option<T>, certainty: Certainty) {
        match certainty {
            Certainty::Durable => {
                self.stable = value;
                self.later.clear();
            }
            Certainty::Relaxed(process) => self.later.push((value, Some(process))),
            Certainty::Unclear => self.later.push((value, None)),
        }
    }

    /// Records a flush of a process, which makes its last relaxed write durable.
    pub fn flush(&mut self, process: u32) {
        let written = self.later.iter().rposition(|(_, by)| *by == Some(process));
        if let Some(at) = written
            && let Some((value, _)) = self.later.drain(..=at).next_back()
        {
            self.stable = value;
        }
    }

    /// Records a power loss. A flush after it does not make relaxed writes from before it durable.
    pub fn lose(&mut self) {
        for (_, by) in &mut self.later {
            *by = None;
        }
    }

    /// The content after the last durable write; `None` if the document was absent then.
    pub fn stable(&self) -> Option<&T> {
        self.stable.as_ref()
    }

    /// Checks that the found content is a possible one.
    ///
    /// # Errors
    /// The found content is not one of the possible contents.
    pub fn check(&self, found: Option<&T>) -> Result<(), Mismatch> {
        let mut possible = std::iter::once(&self.stable).chain(self.later.iter().map(|(value, _)| value));
        if possible.any(|value| value.as_ref() == found) {
            return Ok(());
        }
        let shown = |value: Option<&T>| value.map_or("nothing".to_owned(), |value| format!("{value:.30}"));
        let later = self
            .later
            .iter()
            .map(|(value, _)| format!(", or {}", shown(value.as_ref())));
        Err(Mismatch::new(format!(
            "found {}; expected {}{}",
            shown(found),
            shown(self.stable()),
            later.collect::<String>()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Certainty::{Durable, Relaxed, Unclear};
    use super::Content;

    #[test]
    fn a_durable_write_leaves_one_possible_content() {
        let mut content = Content::default();
        content.check(None).unwrap();
        content.put(Some(1), Unclear);
        content.check(None).unwrap();
        content.check(Some(&1)).unwrap();
        content.put(Some(2), Durable);
        content.check(Some(&2)).unwrap();
        let error = content.check(Some(&1)).unwrap_err();
        assert_eq!(error.to_string(), "found 1; expected 2");
        assert!(content.check(None).is_err());
    }

    #[test]
    fn a_flush_makes_the_writes_of_its_process_durable_and_a_loss_of_power_ends_that() {
        let mut content = Content::default();
        content.put(Some(1), Relaxed(1));
        content.put(Some(2), Relaxed(2));
        content.flush(1);
        assert!(content.check(None).is_err());
        content.check(Some(&1)).unwrap();
        content.check(Some(&2)).unwrap();
        content.lose();
        content.flush(2);
        content.check(Some(&1)).unwrap();
        assert_eq!(content.stable(), Some(&1));
    }
}
