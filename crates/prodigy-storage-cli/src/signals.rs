//! Signals: noted, so that the tool ends in order, or passed on to a command that runs under it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

#[cfg(unix)]
use signal_hook::consts::SIGHUP;
use signal_hook::consts::{SIGINT, SIGTERM};

/// The signals that ask the tool to end.
#[cfg(unix)]
const ENDING: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];
#[cfg(not(unix))]
const ENDING: [i32; 2] = [SIGINT, SIGTERM];

/// Whether the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// From now on a request to end is noted instead of ending the process. Where that can't be had, it ends the
    /// process as ever. A signal that the process was started to ignore stays ignored.
    pub(crate) fn on_request() -> Self {
        let noted = Arc::new(AtomicUsize::new(0));
        let ignored = ignored();
        for signal in ENDING {
            if let (0, Ok(number)) = (ignored >> (signal - 1) & 1, usize::try_from(signal)) {
                let _ = signal_hook::flag::register_usize(signal, Arc::clone(&noted), number);
            }
        }
        Self(noted)
    }

    /// Whether one came.
    pub(crate) fn asked(&self) -> bool {
        self.signal().is_some()
    }

    /// The number of the signal that came last.
    pub(crate) fn signal(&self) -> Option<u8> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            number => u8::try_from(number).ok(),
        }
    }
}

/// The signals that the tool was told to ignore when it was started, a bit each.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

#[cfg(unix)]
pub(crate) use pass_on::PassOn;

#[cfg(unix)]
mod pass_on {
    use std::io;
    use std::process::{Child, Command, ExitStatus};

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
    use signal_hook::consts::{SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    use signal_hook::iterator::SignalsInfo;
    use signal_hook::iterator::exfiltrator::origin::WithOrigin;
    use signal_hook::low_level::siginfo::{Cause, Origin};

    const SIGNALS: [i32; 8] = [
        SIGALRM, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2,
    ];

    /// Catches signals from now on, for a command that is started afterwards. Handlers make them arrive also where the
    /// tool is process 1, which has no default actions.
    pub(crate) struct PassOn(SignalsInfo<WithOrigin>);

    impl PassOn {
        pub(crate) fn from_now_on() -> io::Result<Self> {
            // A command started by `nohup` ignores what the tool was told to ignore. A handler would undo that.
            let ignored = super::ignored();
            let caught = SIGNALS.iter().filter(|signal| ignored >> (**signal - 1) & 1 == 0);
            Ok(Self(SignalsInfo::new(caught)?))
        }

        /// Runs a command to its end, and passes on to it what arrives meanwhile, and what arrived before.
        pub(crate) fn run(mut self, command: &mut Command) -> io::Result<ExitStatus> {
            let mut child = command.spawn()?;
            let pid = Pid::from_child(&child);
            let handle = self.0.handle();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for origin in &mut self.0 {
                        pass(&origin, pid);
                    }
                });
                // The command is not reaped before the last signal is passed on: its id stays its own until then.
                let ended = wait_for_end(&child, pid);
                handle.close();
                ended
            })?;
            child.wait()
        }
    }

    fn wait_for_end(_child: &Child, pid: Pid) -> io::Result<()> {
        loop {
            match waitid(WaitId::Pid(pid), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Err(rustix::io::Errno::INTR) => {}
                other => return Ok(other.map(drop)?),
            }
        }
    }

    fn pass(origin: &Origin, pid: Pid) {
        // A terminal sends these to all of its processes: the command has got them already.
        let by_terminal = matches!(origin.cause, Cause::Kernel) && [SIGINT, SIGQUIT].contains(&origin.signal);
        if let (false, Some(signal)) = (by_terminal, Signal::from_named_raw(origin.signal)) {
            // It fails only if the command has ended.
            let _ = kill_process(pid, signal);
        }
    }
}
