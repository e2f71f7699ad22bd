//! Event ids: UUIDs of version 7 that ascend within a writer.

use std::fmt;
use std::str::FromStr;

use prodigy_storage_layout::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::{Uuid, Variant};
use xxhash_rust::xxh3::xxh3_128;

/// The id of an event: a UUID, version 7 (RFC 9562, 5.7) for every event that this library stores.
///
/// Ids sort by the time at which they were made, to a quarter of a microsecond: 48 bits are milliseconds, the next 12
/// bits are the fraction of the millisecond (RFC 9562, 6.2, method 3), and the last 62 bits are random.
///
/// ```
/// use prodigy_storage_backend::EventId;
///
/// let id: EventId = "0197f4e2-8a3b-7c1d-9e2f-3a4b5c6d7e8f".parse()?;
/// assert!(id.is_v7());
/// assert_eq!(id.to_string(), "0197f4e2-8a3b-7c1d-9e2f-3a4b5c6d7e8f");
/// # Ok::<(), prodigy_storage_backend::InvalidEventId>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventId(Uuid);

/// The error for a text that is not a UUID in the hyphenated lower-case form.
///
/// ```
/// use prodigy_storage_backend::EventId;
///
/// let error = "event-7".parse::<EventId>().unwrap_err();
/// assert!(error.to_string().contains("`event-7`"));
/// ```
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no event id: a UUID such as 0197f4e2-8a3b-7c1d-9e2f-3a4b5c6d7e8f is expected")]
pub struct InvalidEventId(String);

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for InvalidEventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

const RANDOM_BITS: u32 = 62;
const RANDOM_MASK: u128 = (1 << RANDOM_BITS) - 1;
/// The number of ticks in a millisecond. The tick of an id is the number that its bits before the random ones
/// make, without version and variant.
const TICKS_PER_MILLI: u128 = 1 << 12;
/// The largest tick: 48 bits of milliseconds and 12 bits of their fraction.
const MAX_TICKS: u128 = (1 << 60) - 1;
/// The number of the largest ticks that no id may use. A batch never has more events than this.
const LARGEST_BATCH: u128 = 1 << 40;

impl EventId {
    /// The smallest id.
    pub const MIN: Self = Self(Uuid::nil());
    /// The largest id.
    pub const MAX: Self = Self(Uuid::max());
    /// The length of the text form in bytes.
    pub const TEXT_LEN: usize = 36;

    /// The id with these 128 bits.
    #[must_use]
    pub const fn from_u128(bits: u128) -> Self {
        Self(Uuid::from_u128(bits))
    }

    /// The 128 bits of the id.
    #[must_use]
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// True if the id has version 7 and the variant of RFC 9562.
    #[must_use]
    pub fn is_v7(self) -> bool {
        self.0.get_version_num() == 7 && self.0.get_variant() == Variant::RFC4122
    }

    /// The smallest id of version 7 whose time is not before `time`, rounded down to a quarter of a microsecond.
    #[must_use]
    pub fn floor(time: Timestamp) -> Self {
        Self::from_parts(ticks(time), 0)
    }

    /// The id of an event that is to be stored once, even if several programs append it, or one program appends it
    /// again after a restart. It depends only on the time and the key.
    ///
    /// The caller has to pass the same time at each call, such as the moment at which the work was planned. The
    /// time decides the event's place in the log. The 62 random bits of the id are replaced by bits of the XXH3
    /// hash (128 bits) of the key. Two keys with the same tick get the same id with a probability of 2^-62, but
    /// someone who chooses the keys can construct such a pair.
    ///
    /// ```
    /// use prodigy_storage_backend::EventId;
    /// use prodigy_storage_layout::Timestamp;
    ///
    /// let planned = Timestamp::from_millis(1_764_018_118_000);
    /// let id = EventId::for_key(planned, "agent-7 finished");
    /// assert_eq!(id.to_string(), "019ab7ac-5d70-7000-99f2-194a59eb3f1d");
    /// assert_eq!(id.time(), planned);
    /// assert_ne!(id, EventId::for_key(planned, "agent-8 finished"));
    /// ```
    #[must_use]
    pub fn for_key(time: Timestamp, key: impl AsRef<[u8]>) -> Self {
        Self::from_parts(ticks(time), xxh3_128(key.as_ref()))
    }

    /// The time at which the id was made, to a quarter of a microsecond. Only meaningful for an id of [version
    /// 7](Self::is_v7).
    #[must_use]
    pub fn time(self) -> Timestamp {
        let bits = self.as_u128();
        let millis = (bits >> 80) as i64;
        let fraction = ((bits >> 64) & 0xfff) as i64;
        // Rounded up, so that `floor(id.time()) <= id` and the result is within the id's own tick.
        let nanos = (fraction * 1_000_000 + 4095) / 4096;
        Timestamp::from_nanos(millis.saturating_mul(1_000_000).saturating_add(nanos))
    }

    /// True if the id has version 7 and a time more than an hour after `now`: one of the clocks is or was wrong,
    /// that of this machine or that of the machine that made the id. Later ids of the log have to be above this
    /// id, but the timestamps of later events are still right.
    #[must_use]
    pub fn is_ahead_of(self, now: Timestamp) -> bool {
        const HOUR: i64 = 3_600_000_000_000;
        self.is_v7() && self.time().as_nanos() > now.as_nanos().saturating_add(HOUR)
    }

    /// Parses the hyphenated form from bytes, without allocating.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() != Self::TEXT_LEN {
            return None;
        }
        Uuid::try_parse_ascii(text).ok().map(Self)
    }

    /// Writes the hyphenated form.
    pub fn encode(self, out: &mut [u8; Self::TEXT_LEN]) {
        self.0.as_hyphenated().encode_lower(out);
    }

    fn from_parts(ticks: u128, random: u128) -> Self {
        let millis = ticks / TICKS_PER_MILLI;
        let fraction = ticks % TICKS_PER_MILLI;
        Self::from_u128(
            (millis << 80) | (0x7 << 76) | (fraction << 64) | (0b10 << RANDOM_BITS) | (random & RANDOM_MASK),
        )
    }

    fn parts(self) -> (u128, u128) {
        let bits = self.as_u128();
        (
            (bits >> 80) * TICKS_PER_MILLI + ((bits >> 64) & 0xfff),
            bits & RANDOM_MASK,
        )
    }
}

fn ticks(time: Timestamp) -> u128 {
    let nanos = time.as_nanos().max(0) as u128;
    (nanos / 1_000_000) * TICKS_PER_MILLI + (nanos % 1_000_000) * TICKS_PER_MILLI / 1_000_000
}

/// ```
/// use prodigy_storage_backend::EventId;
/// use uuid::Uuid;
///
/// let uuid = Uuid::now_v7();
/// let id = EventId::from(uuid);
/// assert!(id.is_v7());
/// assert_eq!(Uuid::from(id), uuid);
/// ```
impl From<Uuid> for EventId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl From<EventId> for Uuid {
    fn from(id: EventId) -> Self {
        id.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, InvalidEventId> {
        Self::parse(text.as_bytes()).ok_or_else(|| InvalidEventId(text.chars().take(64).collect()))
    }
}

/// Makes ids that ascend strictly, even if the clock steps back.
///
/// Each id has its own tick: the clock's tick, or the one after the last id's if the clock has not advanced or has
/// stepped back. So the ids of a source that makes more than four of them in a microsecond are ahead of the clock
/// for a while. All 62 random bits are drawn for each id, so two sources never count up from the same number.
///
/// # Several sources
/// Two sources can make equal ids only on the same tick, and each source makes at most one id per tick. In the
/// worst case the clock of every process is behind the newest id of one log, so that all sources use the same
/// ticks. Then `n` sources with `m` ids each make `m * n * (n - 1) / 2` pairs of ids with one tick, and the ids of
/// a pair are equal with a probability of 2^-62. For 64 sources with 3 million ids each there are 6.0e9 pairs, and
/// the probability that any two ids are equal is 1.3e-9. Each random generator is seeded with 64 bits of the
/// operating system. The probability that the sequences of two of the 64 generators overlap is about as small
/// (6.6e-10).
///
/// ```
/// use prodigy_storage_backend::{EventId, IdSource};
/// use prodigy_storage_layout::Timestamp;
///
/// let mut source = IdSource::above(EventId::MIN);
/// let now = Timestamp::from_millis(1_764_018_118_000);
/// let (first, second) = (source.next(now), source.next(Timestamp::MIN)); // the clock stepped back
/// assert!(first < second);
/// ```
#[derive(Debug)]
pub struct IdSource {
    last: EventId,
    random: fastrand::Rng,
}

impl IdSource {
    /// A source whose ids are all above `newest`.
    #[must_use]
    pub fn above(newest: EventId) -> Self {
        // The seed comes from the operating system: two processes that start at the same instant must not draw the same
        // numbers.
        let seed = Uuid::new_v4().as_u64_pair();
        Self {
            last: newest,
            random: fastrand::Rng::with_seed(seed.0 ^ seed.1.rotate_left(32)),
        }
    }

    /// The newest id that the source made or was raised to. All later ids are above it.
    #[must_use]
    pub fn newest(&self) -> EventId {
        self.last
    }

    /// Makes all later ids greater than `newest`.
    pub fn raise(&mut self, newest: EventId) {
        self.last = self.last.max(newest);
    }

    /// True if the newest id is so close to the largest possible time that no further id fits. The time of a real
    /// clock never makes such an id.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.last.parts().0 >= MAX_TICKS - LARGEST_BATCH
    }

    /// The next id, with the tick of `now`, or with the tick after the last one if the clock has not advanced or has
    /// stepped back.
    pub fn next(&mut self, now: Timestamp) -> EventId {
        let tick = ticks(now).max(self.last.parts().0 + 1);
        self.last = EventId::from_parts(tick, u128::from(self.random.u64(..)));
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_ascend_when_the_clock_steps_back() {
        let mut source = IdSource::above(EventId::MIN);
        let noon = Timestamp::from_millis(1_800_000_000_000);
        let first = source.next(noon);
        let second = source.next(Timestamp::from_millis(1_700_000_000_000));
        let third = source.next(noon);
        assert!(first < second && second < third, "{first} {second} {third}");
        assert!(second.is_v7() && third.is_v7());
        assert_eq!(
            third.parts().0 - first.parts().0,
            2,
            "each id is one tick later, whatever the clock says"
        );
    }

    #[test]
    fn sources_behind_one_newest_id_make_distinct_ids() {
        // Every source starts above the same id, and the clock stays below it, so all sources use the same ticks.
        let newest = EventId::floor(Timestamp::from_millis(4_102_444_800_000));
        let (sources, each) = (64, 3_000);
        let mut ids: Vec<EventId> = (0..sources)
            .flat_map(|_| {
                let mut source = IdSource::above(newest);
                std::iter::repeat_with(move || source.next(Timestamp::from_nanos(0))).take(each)
            })
            .collect();
        let ticks: std::collections::HashSet<u128> = ids.iter().map(|id| id.parts().0).collect();
        assert_eq!(ticks.len(), each, "each source uses each tick once");
        ids.sort();
        // The random parts of the ids on one tick are spread over all 62 bits. If the sources counted up in small
        // steps instead, the largest part would be below 2^46.
        let widest = ids.iter().map(|id| id.parts().1).max();
        assert!(widest.is_some_and(|part| part > RANDOM_MASK / 2));
        ids.dedup();
        assert_eq!(ids.len(), sources * each);
    }

    #[test]
    fn the_random_part_is_drawn_anew_for_each_id() {
        let mut source = IdSource::above(EventId::MIN);
        let now = Timestamp::from_millis(1_800_000_000_000);
        let parts: Vec<u128> = (0..200).map(|_| source.next(now).parts().1).collect();
        let falls = parts.windows(2).filter(|pair| pair[1] < pair[0]).count();
        assert!(
            (50..150).contains(&falls),
            "{falls} of 199 random parts are below their predecessors"
        );
    }

    #[test]
    fn an_id_is_ahead_if_it_is_more_than_an_hour_ahead() {
        let now = Timestamp::from_millis(1_800_000_000_000);
        let hour = Timestamp::from_millis(now.as_millis() + 3_600_000);
        assert!(!EventId::floor(now).is_ahead_of(now));
        assert!(!EventId::floor(hour).is_ahead_of(now));
        assert!(EventId::floor(Timestamp::from_millis(hour.as_millis() + 1)).is_ahead_of(now));
        assert!(
            !EventId::MAX.is_ahead_of(now),
            "an id of another version has no time"
        );
    }

    #[test]
    fn a_source_at_the_end_of_time_is_spent() {
        for (last, spent) in [
            (EventId::MIN, false),
            (
                EventId::from_parts(MAX_TICKS - LARGEST_BATCH - 1, RANDOM_MASK),
                false,
            ),
            (EventId::from_parts(MAX_TICKS - LARGEST_BATCH, 0), true),
            (EventId::from_parts(MAX_TICKS, 0), true),
            (EventId::MAX, true),
        ] {
            let mut source = IdSource::above(last);
            assert_eq!(source.is_spent(), spent, "{last}");
            assert!(spent || source.next(Timestamp::from_nanos(0)) > last, "{last}");
        }
    }

    proptest::proptest! {
        #[test]
        fn floor_and_time_agree(nanos in 0i64..4_000_000_000_000_000_000) {
            let time = Timestamp::from_nanos(nanos);
            let floor = EventId::floor(time);
            proptest::prop_assert!(floor.is_v7());
            proptest::prop_assert!(floor.time() <= time);
            proptest::prop_assert!(time.as_nanos() - floor.time().as_nanos() < 250);
            proptest::prop_assert_eq!(EventId::floor(floor.time()), floor);
        }

        #[test]
        fn text_and_uuid_both_ways(bits: u128) {
            let id = EventId::from_u128(bits);
            proptest::prop_assert_eq!(EventId::from(Uuid::from(id)), id);
            proptest::prop_assert_eq!(Uuid::from(id).to_string(), id.to_string());
            let mut text = [0; EventId::TEXT_LEN];
            id.encode(&mut text);
            proptest::prop_assert_eq!(EventId::parse(&text), Some(id));
            proptest::prop_assert_eq!(id.to_string().parse::<EventId>(), Ok(id));
        }
    }
}
