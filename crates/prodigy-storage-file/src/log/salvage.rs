//! Finds records in a line that is not a valid record as a whole.

use std::ops::Range;

use prodigy_storage_backend::EventId;
use prodigy_storage_backend::record;

/// The largest number of failed attempts per line: possible starts or ends of records that turn out not to be any.
const TRIES: usize = 4096;
/// The smallest limit, in bytes, for the work of failed attempts. Each of them reads all bytes after a possible start.
/// For a longer line, the limit is [`PASSES`] times the length of the line.
const IN_VAIN: usize = 64 << 20;
const PASSES: usize = 256;
/// The offset of the id in a record of ours, after `{"id":"`, and the bytes that follow the id.
const ID_AT: usize = 7;
const TIME: &[u8] = b"\",\"timestamp\":\"";

/// The records in `bytes` whose checksum matches: their ranges and ids.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = (Range<usize>, EventId)> {
    let (mut from, mut tries) = (0, 0);
    let mut left = bytes.len().saturating_mul(PASSES).max(IN_VAIN);
    std::iter::from_fn(move || {
        while tries < TRIES
            && left > 0
            && let Some(start) = start(bytes, from)
        {
            from = start + 1;
            let rest = bytes.get(start..)?;
            if let Some(end) = record::find_record_end(rest, TRIES).map(|len| start + len)
                && let Ok(record) = record::read_line(bytes.get(start..end)?)
            {
                from = end;
                return Some((start..end, record.id));
            }
            tries += 1;
            left = left.saturating_sub(rest.len());
        }
        None
    })
}

/// The start of a possible record of ours. An object that merely has an `id` first, as payloads may, is not one: each
/// attempt costs a pass over all bytes after it.
fn start(bytes: &[u8], mut from: usize) -> Option<usize> {
    loop {
        let start = record::find_record_start(bytes, from)?;
        let rest = bytes.get(start + ID_AT..)?;
        if rest.get(..EventId::TEXT_LEN).and_then(EventId::parse).is_some()
            && rest
                .get(EventId::TEXT_LEN..)
                .is_some_and(|rest| rest.starts_with(TIME))
        {
            return Some(start);
        }
        from = start + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prodigy_storage_backend::record::RecordEncoder;
    use prodigy_storage_layout::Timestamp;

    #[test]
    fn however_many_records_are_joined_each_is_found() {
        let (mut bytes, mut encoder) = (Vec::new(), RecordEncoder::new());
        for nanos in 0..3 * TRIES as i64 {
            let id = EventId::floor(Timestamp::from_nanos(1_800_000_000_000_000_000 + nanos * 1000));
            encoder.encode(&mut bytes, id, id.time(), b",\"event\":1");
            bytes.push(b'\r');
        }
        assert_eq!(records(&bytes).count(), 3 * TRIES);
    }

    #[test]
    fn beginnings_of_no_record_are_tried_so_often_and_no_more() {
        let (mut bytes, mut encoder) = (Vec::new(), RecordEncoder::new());
        let id = EventId::floor(Timestamp::from_nanos(1_800_000_000_000_000_000));
        let begins = format!("{{\"id\":\"{id}\",\"timestamp\":\"");
        for (tries, found) in [(64, 1), (TRIES, 0)] {
            bytes.clear();
            bytes.extend(begins.repeat(tries).bytes());
            encoder.encode(&mut bytes, id, id.time(), b",\"event\":1");
            assert_eq!(records(&bytes).count(), found, "behind {tries}");
        }
    }
}
