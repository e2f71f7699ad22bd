//! Retries are told by `tracing`.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{Backend, Deadline};
use prodigy_storage_retry::{RetrySettings, Retrying};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::fake::{Fake, PASSING};
use crate::forwarding::document;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Writes down every event as a line of its thread. It is the whole process's: whether an event is of interest is
/// decided once, by whichever test gets there first, and a subscriber of one thread may come too late for that.
struct Lines;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {field}={value:?}"));
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        LINES.with_borrow_mut(|lines| lines.push(line.0));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

#[test]
fn each_retry_and_the_success_after_it() {
    let settings = RetrySettings {
        initial_delay: Duration::ZERO,
        ..RetrySettings::default()
    };
    let layer = Retrying::new(Arc::new(Fake::failing([PASSING, PASSING])), settings);
    tracing::subscriber::set_global_default(Lines).unwrap();
    tracing::callsite::rebuild_interest_cache();
    layer.get(&document(), Deadline::never()).unwrap();
    let lines = LINES.take();
    assert_eq!(lines.len(), 3, "{lines:?}");
    for (tries, line) in (1..).zip(&lines[..2]) {
        assert!(line.starts_with("WARN"), "{line}");
        for part in [
            "operation=\"get document\"",
            "target=orphaned_worktrees/shop/job.json",
            &format!("tries={tries}"),
            "told to fail for now",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
    }
    assert!(
        lines[2].starts_with("DEBUG") && lines[2].contains("tries=3"),
        "{}",
        lines[2]
    );
}
