//! Signals: recorded, so that the tool can end in order, or passed on to the command that it runs.
//!
//! By default a signal ends the tool. The kernel takes this default action, except for process 1 of a container, which
//! needs a handler ([`end_process_1`]).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};

/// The signals that ask the tool to end.
const ENDING: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// The signals that end a process by default and that the tool handles.
const FATAL: [i32; 7] = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Set by a signal after which the command no longer waits: see [`Stop::ends_waits`].
static ENDS_WAITS: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The number of the last signal, which decides the exit code.
static LAST: LazyLock<Arc<AtomicUsize>> = LazyLock::new(Arc::default);

/// The flag that ends waits for other processes.
pub(crate) fn ends_waits() -> &'static AtomicBool {
    &ENDS_WAITS
}

/// The number of the signal that ended a wait.
pub(crate) fn last() -> Option<u8> {
    u8::try_from(LAST.load(Ordering::Relaxed))
        .ok()
        .filter(|&number| number > 0)
}

/// While this is true, signal handlers end the tool. Only process 1 needs them, because it has no default actions.
static ENDS: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(false)));

/// From this call on, signals end the tool with 128 plus their number, even if it is process 1.
pub(crate) fn end_process_1() {
    if std::process::id() != 1 || ENDS.swap(true, Ordering::SeqCst) {
        return;
    }
    for signal in not_ignored(&FATAL) {
        // If the handler can't be registered, the signal stays without effect.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&ENDS));
    }
}

/// From this call on, a write beyond the limit of a file's size (`ulimit -f`) fails instead of ending the tool.
/// Processes that the tool starts have the default action.
pub(crate) fn let_large_writes_fail() {
    // If the handler can't be registered, the signal ends the tool.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Turns off the handlers of [`end_process_1`], so that only the handlers of the running command react to a signal.
fn hand_over() {
    ENDS.store(false, Ordering::SeqCst);
}

/// Records a user's request to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// From this call on, a request to end (SIGHUP, SIGINT or SIGTERM) is recorded and no longer ends the process. If
    /// the handler can't be registered, the request still ends the process. A signal that the process was started to
    /// ignore stays ignored.
    pub(crate) fn on_request() -> Self {
        let noted = Arc::new(AtomicUsize::new(0));
        for signal in not_ignored(&ENDING) {
            if let Ok(number) = usize::try_from(signal) {
                let _ = signal_hook::flag::register_usize(signal, Arc::clone(&noted), number);
            }
        }
        hand_over();
        Self(noted)
    }

    /// From this call on, a request to end also ends a wait for another process, such as the wait for a lock. For a
    /// command that does nothing else while it waits.
    pub(crate) fn ends_waits(self) -> Self {
        for signal in not_ignored(&ENDING) {
            if let Ok(number) = usize::try_from(signal) {
                let _ = signal_hook::flag::register_usize(signal, Arc::clone(&LAST), number);
                let _ = signal_hook::flag::register(signal, Arc::clone(&ENDS_WAITS));
            }
        }
        self
    }

    /// Records that the command reacts to a request: its later waits end only at another request.
    pub(crate) fn heard(&self) {
        ENDS_WAITS.store(false, Ordering::Relaxed);
    }

    /// True if a signal has asked the command to end.
    pub(crate) fn asked(&self) -> bool {
        self.signal().is_some()
    }

    /// Takes the number of the last signal: the next call returns only a later signal.
    pub(crate) fn take(&self) -> Option<u8> {
        u8::try_from(self.0.swap(0, Ordering::Relaxed))
            .ok()
            .filter(|&number| number > 0)
    }

    /// The number of the last signal.
    pub(crate) fn signal(&self) -> Option<u8> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            number => u8::try_from(number).ok(),
        }
    }
}

/// The signals that the tool was started to ignore, as a bit set.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

/// The signals among these that the tool was not started to ignore.
fn not_ignored(signals: &[i32]) -> impl Iterator<Item = i32> {
    let ignored = ignored();
    signals
        .iter()
        .copied()
        .filter(move |signal| ignored >> (signal - 1) & 1 == 0)
}

pub(crate) use pass_on::{PassOn, Watch};

mod pass_on {
    use std::io;
    use std::process::{Child, Command, ExitStatus};
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::Duration;

    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
    use signal_hook::consts::{SIGCONT, SIGINT, SIGQUIT};
    use signal_hook::iterator::SignalsInfo;
    use signal_hook::iterator::exfiltrator::origin::WithOrigin;
    use signal_hook::low_level::siginfo::{Cause, Origin};

    /// The interval of the checks on what the command depends on.
    const LOOK: Duration = Duration::from_secs(1);

    /// The result of a check.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Watch {
        /// Everything is in order: check again.
        GoOn,
        /// The command is asked to end, and no more checks are made.
        End,
    }

    /// Catches signals for a command that is started afterwards. A handler receives them even if the tool is process 1,
    /// which has no default actions.
    pub(crate) struct PassOn(SignalsInfo<WithOrigin>);

    impl PassOn {
        pub(crate) fn from_now_on() -> io::Result<Self> {
            // A command under `nohup` must keep ignoring the signals that the tool was started to ignore; a handler
            // would undo that.
            let caught = super::not_ignored(&super::FATAL).chain(super::not_ignored(&[SIGCONT]));
            let caught = Self(SignalsInfo::new(caught)?);
            super::hand_over();
            Ok(caught)
        }

        /// Runs a command until it ends. Passes signals on to it, including those that arrived before it started.
        /// `look` is called every second; if it returns [`Watch::End`], the command gets SIGTERM.
        pub(crate) fn run(
            mut self,
            command: &mut Command,
            mut look: impl FnMut() -> Watch,
        ) -> io::Result<ExitStatus> {
            let mut child = command.spawn()?;
            let pid = Pid::from_child(&child);
            let handle = self.0.handle();
            let (ends, ended) = channel();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    for origin in &mut self.0 {
                        pass(&origin, pid);
                    }
                });
                scope.spawn(|| ends.send(wait_for_end(&child, pid)));
                // The process id stays reserved until the command is reaped. It is reaped only after the last signal
                // was sent, so no signal can reach another process.
                let mut watch = Watch::GoOn;
                let ended = loop {
                    let wait = if watch == Watch::GoOn { LOOK } else { Duration::MAX };
                    match ended.recv_timeout(wait) {
                        Ok(ended) => break ended,
                        Err(RecvTimeoutError::Disconnected) => break Ok(()),
                        Err(RecvTimeoutError::Timeout) if watch == Watch::End => {}
                        Err(RecvTimeoutError::Timeout) => {
                            watch = look();
                            if watch == Watch::End {
                                // This fails only if the command has ended.
                                let _ = kill_process(pid, Signal::TERM);
                            }
                        }
                    }
                };
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
        // The terminal sends these signals to all of its processes, so the command has received them already.
        let by_terminal = matches!(origin.cause, Cause::Kernel) && [SIGINT, SIGQUIT].contains(&origin.signal);
        if let (false, Some(signal)) = (by_terminal, Signal::from_named_raw(origin.signal)) {
            // This fails only if the command has ended.
            let _ = kill_process(pid, signal);
        }
    }
}
