//! The progress bar.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Input shorter than so many bytes is read too soon for a bar to be of use.
const SHORT: u64 = 4 << 20;
/// Bytes between two updates.
const STEP: u64 = 64 << 10;

/// How far a long input is read; silent where it is short or no terminal looks on.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    shown: u64,
}

impl Progress {
    /// Over an input of so many bytes.
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

    /// So many bytes are read.
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
