//! Finding records in bytes that are no line as a whole.

use std::ops::Range;

use prodigy_storage_backend::EventId;
use prodigy_storage_backend::record;

/// Beginnings and ends of records that are tried within one line.
const TRIES: usize = 4096;
/// `{"id":"`, the id, and what follows it in every record of ours.
const ID_AT: usize = 7;
const TIME: &[u8] = b"\",\"timestamp\":\"";

/// The records in `bytes` whose crc holds, and their ids.
pub(crate) fn records(bytes: &[u8]) -> impl Iterator<Item = (Range<usize>, EventId)> {
    let (mut from, mut tries) = (0, 0);
    std::iter::from_fn(move || {
        while tries < TRIES
            && let Some(start) = start(bytes, from)
        {
            tries += 1;
            from = start + 1;
            let Some(end) = record::find_record_end(bytes.get(start..)?, TRIES).map(|len| start + len) else {
                continue;
            };
            if let Ok(record) = record::read_line(bytes.get(start..end)?) {
                from = end;
                return Some((start..end, record.id));
            }
        }
        None
    })
}

/// Where a record of ours may begin. An object that only begins with an `id`, as payloads do, is none: each try costs
/// a pass over what follows.
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
