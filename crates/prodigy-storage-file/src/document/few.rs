//! The newest few of a series, as one pass over the names of its folder finds them.

use prodigy_storage_layout::Stamp;

/// How many are kept: the newest one, and some for where that one is damaged or was just removed.
pub(super) const KEPT: usize = 4;

const TEXT: usize = 26;

/// The newest few stamps among those that were offered.
#[derive(Clone, Debug, Default)]
pub(super) struct Few {
    /// The newest first.
    kept: Vec<Kept>,
    /// Whether there may be older ones.
    more: bool,
}

#[derive(Clone, Debug)]
struct Kept {
    stamp: Stamp,
    /// The canonical text of its time.
    text: [u8; TEXT],
}

/// What [`Few::below`] knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Below {
    /// This one is the newest.
    Stamp(Stamp),
    /// There is none.
    None,
    /// It is older than all that were kept.
    Older,
}

impl Few {
    /// Takes the text of a stamp, if it is one, and is older than `before`.
    ///
    /// Nothing is parsed or allocated for one that is too old to be kept and is written as this project does it: such
    /// texts are ordered as their times are.
    pub(super) fn offer(&mut self, text: &str, before: Option<&Stamp>) {
        let full = self.kept.len() >= KEPT;
        if full
            && let Some(oldest) = self.kept.last()
            && text.as_bytes() <= oldest.text.as_slice()
            && Stamp::is_canonical_form(text)
        {
            self.more = true;
            return;
        }
        let Some(stamp) = Stamp::parse(text).filter(|stamp| before.is_none_or(|before| stamp < before))
        else {
            return;
        };
        let at = self.kept.partition_point(|kept| kept.stamp > stamp);
        self.more |= full;
        if full {
            if at >= KEPT {
                return;
            }
            self.kept.pop();
        }
        let text = canonical(text, &stamp);
        self.kept.insert(at, Kept { stamp, text });
    }

    /// The newest one that is older than `before`; without it, the newest of all.
    pub(super) fn below(&self, before: Option<&Stamp>) -> Below {
        let older = |kept: &&Kept| before.is_none_or(|before| kept.stamp < *before);
        match self.kept.iter().find(older) {
            Some(kept) => Below::Stamp(kept.stamp.clone()),
            None if self.more => Below::Older,
            None => Below::None,
        }
    }

    /// Those that are kept, the newest first.
    pub(super) fn stamps(&self) -> impl Iterator<Item = &Stamp> {
        self.kept.iter().map(|kept| &kept.stamp)
    }

    /// Whether older ones may have been left out.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }
}

fn canonical(text: &str, stamp: &Stamp) -> [u8; TEXT] {
    if stamp.is_canonical() {
        return text.as_bytes().try_into().unwrap_or_default();
    }
    stamp.time().to_string().as_bytes().try_into().unwrap_or_default()
}
#[cfg(test)]
mod tests {
    use prodigy_storage_layout::Timestamp;
    use proptest::prelude::*;

    use super::*;

    /// Stamps close together, of this project and of others, and texts that are none.
    fn texts() -> impl Strategy<Value = String> {
        let time =
            (0..40i64).prop_map(|n| Timestamp::from_nanos(1_763_192_166_000_000_000 + n * 250_000_000));
        prop_oneof![
            6 => time.clone().prop_map(|time| time.to_string()),
            1 => time.clone().prop_map(|time| time.to_rfc3339()),
            1 => time.prop_map(|time| time.as_nanos().to_string()),
            1 => Just("20251115_073606".to_owned()),
            1 => "2025111[5-9]T0736[0-9]{2}\\.[0-9]{9}Z",
            1 => "20251[0-9]{3}T[0-9]{6}\\.[0-9]{9}Z",
            1 => "[0-9TZ.]{0,30}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn the_newest_few_are_those_of_a_whole_sorted_list(
            texts in prop::collection::hash_set(texts(), 0..60),
            bound in proptest::option::of(texts()),
        ) {
            let bound = bound.and_then(|text| Stamp::parse(&text));
            let mut all: Vec<Stamp> = texts.iter().filter_map(|text| Stamp::parse(text)).collect();
            all.sort();
            all.reverse();
            for before in [None, bound.as_ref()] {
                let mut few = Few::default();
                texts.iter().for_each(|text| few.offer(text, before));
                let wanted: Vec<&Stamp> =
                    all.iter().filter(|stamp| before.is_none_or(|before| *stamp < before)).collect();
                let kept: Vec<&Stamp> = few.stamps().collect();
                prop_assert_eq!(&kept[..], &wanted[..wanted.len().min(KEPT)]);
                prop_assert!(few.has_more() || wanted.len() <= KEPT);
            }
            let mut few = Few::default();
            texts.iter().for_each(|text| few.offer(text, None));
            let wanted = all.iter().find(|stamp| bound.as_ref().is_none_or(|bound| *stamp < bound));
            match few.below(bound.as_ref()) {
                Below::Stamp(found) => prop_assert_eq!(Some(&found), wanted),
                Below::None => prop_assert_eq!(None, wanted),
                Below::Older => prop_assert!(all.len() >= KEPT),
            }
        }
    }
}
