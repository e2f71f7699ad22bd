//! The warning of a log whose newest id is ahead of the clock.

use prodigy_storage::{EventId, Timestamp};

use crate::app::App;

/// Warns if the newest id of a log is more than an hour ahead of the clock.
pub(super) fn warn(app: &mut App<'_>, newest: Option<EventId>) {
    if let Some(newest) = newest.filter(|newest| newest.is_ahead_of(Timestamp::now())) {
        app.warn(&format!(
            "the newest id of this log is dated {}, more than an hour ahead of the clock: check the clock of this machine, and of \
             the one that wrote the event. Later ids lie above it; the times of later events are true",
            app.message_time(newest.time())
        ));
    }
}
