//! The progress bar.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The size in bytes of the smallest input for which a bar is drawn.
const SHORT: u64 = 4 << 20;
/// The number of bytes between two updates of the bar.
const STEP: u64 = 64 << 10;

/// Shows how much of an input was read, or how many items have ended. Prints nothing for a short input, or without a
/// terminal.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    shown: u64,
}

impl Progress {
    /// A bar for an input of this number of bytes.
    pub(crate) fn over(bytes: u64, terminal: bool) -> Self {
        if !terminal || bytes < SHORT {
            return Self::default();
        }
        let bar = ProgressBar::with_draw_target(Some(bytes), ProgressDrawTarget::stderr());
        let template = "{bar:32} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self {
            bar: Some(bar),
            shown: 0,
        }
    }

    /// A bar for this number of items.
    pub(crate) fn of_items(items: u64, terminal: bool) -> Self {
        if !terminal {
            return Self::default();
        }
        let bar = ProgressBar::with_draw_target(Some(items), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{bar:32} {pos} of {len}") {
            bar.set_style(style);
        }
        bar.tick();
        Self {
            bar: Some(bar),
            shown: 0,
        }
    }

    /// Updates the number of items that have ended.
    pub(crate) fn ended(&self, items: u64, message: String) {
        if let Some(bar) = &self.bar {
            let is_first = bar.position() == 0 && items > 0;
            bar.set_message(message);
            bar.set_position(items);
            // An estimate of the remaining time needs at least one item.
            if is_first
                && let Ok(style) = ProgressStyle::with_template("{bar:32} {pos} of {len}, {msg}{eta} left")
            {
                bar.set_style(style);
            }
        }
    }

    /// Hides the bar while `write` writes to the terminal.
    pub(crate) fn aside<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Updates the number of bytes that were read.
    pub(crate) fn at(&mut self, bytes: u64) {
        if let Some(bar) = &self.bar
            && bytes.saturating_sub(self.shown) >= STEP
        {
            self.shown = bytes;
            bar.set_position(bytes);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
