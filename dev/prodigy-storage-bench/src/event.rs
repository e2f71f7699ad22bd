//! The event of the benchmarks, about 360 bytes as a record.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// The action of an agent.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) agent: u32,
    pub(crate) item: String,
    pub(crate) step: u32,
    pub(crate) duration_ms: u64,
    pub(crate) sequence: u64,
    pub(crate) output: String,
}

impl Event {
    /// A hash of the event's contents.
    pub(crate) fn digest(&self) -> u64 {
        let numbers = [
            self.sequence,
            self.duration_ms,
            u64::from(self.agent) << 32 | u64::from(self.step),
            xxh3_64(self.kind.as_bytes()),
            xxh3_64(self.item.as_bytes()),
            xxh3_64(self.output.as_bytes()),
        ];
        numbers
            .iter()
            .fold(0, |hash: u64, number| mixed(hash.rotate_left(7) ^ number))
    }
}

const PREFIX: &str = "commit ";
const DIGITS: usize = 16;

/// A source of events by number. It reuses one event, so that no event needs an allocation.
#[derive(Debug)]
pub(crate) struct Source {
    seed: u64,
    event: Event,
}

impl Source {
    /// A source of events for a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            seed,
            event: Event {
                kind: "agent_step_completed".to_owned(),
                agent: 0,
                item: format!("item-{:0DIGITS$x}", 0),
                step: 0,
                duration_ms: 0,
                sequence: 0,
                output: format!(
                    "{PREFIX}{:0DIGITS$x} on branch agent-worktree: all 214 tests pass, 3 files changed, 2 warnings, no errors",
                    0
                ),
            },
        }
    }

    /// The n-th event. It depends only on the seed and the number, and differs from all other events.
    pub(crate) fn event(&mut self, n: usize) -> &Event {
        let random = mixed(self.seed ^ mixed(n as u64));
        let event = &mut self.event;
        event.agent = (random % 16) as u32;
        event.step = (random >> 8) as u32 % 9;
        event.duration_ms = (random >> 16) % 90_000;
        event.sequence = n as u64;
        overwrite(&mut event.item, "item-".len(), random.rotate_left(32));
        overwrite(&mut event.output, PREFIX.len(), mixed(random));
        event
    }

    /// The digest of the events with these numbers, independent of the order in which they are read.
    pub(crate) fn digest(&mut self, numbers: impl IntoIterator<Item = usize>) -> Digest {
        let mut digest = Digest::default();
        for n in numbers {
            digest.add(self.event(n));
        }
        digest
    }
}

/// Overwrites sixteen hexadecimal digits of a text.
fn overwrite(text: &mut String, at: usize, number: u64) {
    let mut digits = [0u8; DIGITS];
    let mut rest = number;
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"
            .get((rest & 0xf) as usize)
            .copied()
            .unwrap_or(b'0');
        rest >>= 4;
    }
    let digits = std::str::from_utf8(&digits).unwrap_or_default();
    text.replace_range(at..at + DIGITS, digits);
}

/// Spreads the bits of a number (the finaliser of MurmurHash3).
fn mixed(number: u64) -> u64 {
    let mut hash = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The number of stored or read events, and the sum of their hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Digest {
    pub(crate) count: usize,
    sum: u64,
}

impl Digest {
    pub(crate) fn add(&mut self, event: &Event) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(event.digest());
    }

    /// Fails unless the digests are equal.
    pub(crate) fn must_be(self, wanted: Self) -> anyhow::Result<()> {
        anyhow::ensure!(
            self.count == wanted.count,
            "{} of {} are there",
            self.count,
            wanted.count
        );
        anyhow::ensure!(self == wanted, "what is there is not what was stored");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Event, Source};

    #[test]
    fn events_differ_by_number_and_by_seed_and_repeat() {
        let mut source = Source::new(1);
        let first: Event = source.event(0).clone();
        let second = source.event(1).digest();
        assert_ne!(first.digest(), second);
        assert_eq!(source.event(0).digest(), first.digest());
        assert_ne!(Source::new(2).event(0).digest(), first.digest());
    }

    #[test]
    fn a_digest_sees_a_lost_one_and_a_changed_one_but_no_order() {
        let wanted = Source::new(1).digest(0..9);
        assert!(Source::new(1).digest((0..9).rev()).must_be(wanted).is_ok());
        assert!(Source::new(1).digest(0..8).must_be(wanted).is_err());
        assert!(Source::new(1).digest(1..10).must_be(wanted).is_err());
        let mut digest = Source::new(1).digest(0..8);
        let mut changed = Source::new(1).event(8).clone();
        changed.step ^= 1;
        digest.add(&changed);
        assert!(digest.must_be(wanted).is_err());
    }

    #[test]
    fn a_record_has_about_360_bytes() {
        let mut buffer = Vec::new();
        crate::raw::line(&mut buffer, 7, Source::new(3).event(7)).unwrap();
        assert!((340..=380).contains(&buffer.len()), "{} bytes", buffer.len());
    }
}
