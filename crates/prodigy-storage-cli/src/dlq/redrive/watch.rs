//! Shows a run to its user: the output of commands, a progress bar, and the effect of signals.

use std::io::Write;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use rustix::process::Signal;

use super::command::{Commands, Ended, Lines};
use crate::app::App;
use crate::progress::Progress;
use crate::signals::Stop;

/// The interval at which signals are checked.
const LOOK: Duration = Duration::from_millis(50);

/// A message about a command for the user's terminal.
#[derive(Debug)]
pub(super) enum Said {
    /// Lines that the command wrote.
    Lines(Lines),
    /// The command has ended.
    Ended(Ended),
}

/// Watches a run until all senders of `heard` are dropped. Calls `take_no_more` at the first signal.
///
/// Returns the last signal that was received.
pub(super) fn until_end(
    app: &mut App<'_>,
    heard: &Receiver<Said>,
    commands: &Commands<'_>,
    total: Option<u64>,
    stop: &Stop,
    take_no_more: impl Fn(),
) -> Option<u8> {
    let bar = Progress::of_items(total.unwrap_or_default(), total.is_some());
    let (mut ended, mut failed) = (0, 0);
    let mut signals = 0;
    let mut last = None;
    loop {
        match heard.recv_timeout(LOOK) {
            // Standard error is gone, so a failure can't be reported.
            Ok(Said::Lines(lines)) => drop(bar.aside(|| match lines {
                Lines::Output(lines) => app.out.write_all(&lines).and_then(|()| app.out.flush()),
                Lines::Error(lines) => app.err.write_all(&lines),
            })),
            Ok(Said::Ended(how)) => {
                ended += 1;
                failed += u64::from(matches!(how, Ended::Failed(..)));
                let message = match failed {
                    0 => String::new(),
                    _ => format!("{failed} failed, "),
                };
                bar.ended(ended, message);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return last,
        }
        let Some(signal) = stop.take() else { continue };
        last = Some(signal);
        signals += 1;
        bar.aside(|| match signals {
            1 => {
                take_no_more();
                app.note(
                    "no more items are taken; interrupt once more to end the commands that run and to release their items",
                );
            }
            2 => {
                commands.end(Signal::TERM);
                app.note("the commands got SIGTERM, and their items are released; interrupt once more to kill them");
            }
            _ => commands.end(Signal::KILL),
        });
    }
}
