//! Signals that a command wants to outlive.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

/// Whether the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// From now on an interrupt, or a request to end, is noted instead of ending the process. Where that can't be had,
    /// it ends the process as ever.
    pub(crate) fn on_request() -> Self {
        Self::on(&[SIGINT, SIGTERM])
    }

    /// From now on what the terminal sends to all of its processes is for the command that runs under us to decide on.
    pub(crate) fn never_by_terminal() -> Self {
        #[cfg(unix)]
        return Self::on(&[SIGINT, signal_hook::consts::SIGQUIT]);
        #[cfg(not(unix))]
        return Self::on(&[SIGINT]);
    }

    fn on(signals: &[i32]) -> Self {
        let flag = Arc::new(AtomicBool::new(false));
        for &signal in signals {
            let _ = signal_hook::flag::register(signal, Arc::clone(&flag));
        }
        Self(flag)
    }

    /// Whether one came.
    pub(crate) fn asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
