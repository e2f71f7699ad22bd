//! Signals: noted, so that the tool ends in order, or passed on to a command that runs under it.
//!
//! Until a command asks for either, a signal ends the tool. The kernel does that by itself, except for process 1 of a
//! container, for which it takes no default action ([`end_process_1`]).

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use signal_hook::consts::{SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};

/// The signals that ask the tool to end.
const ENDING: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

/// The signals that end a process by default and that the tool may have to act on.
const FATAL: [i32; 7] = [SIGALRM, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2];

/// Raised by a signal for which the command does not wait any longer: see [`Stop::ends_waits`].
static ENDS_WAITS: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// The number of the signal that came last, for the code that the tool ends with.
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

/// True while a signal ends process 1.
static ENDS: LazyLock<Arc<AtomicBool>> = LazyLock::new(|| Arc::new(AtomicBool::new(false)));

/// From now on, signals end the tool also where it is process 1, with 128 and the number of the signal.
pub(crate) fn end_process_1() {
    if std::process::id() != 1 || ENDS.swap(true, Ordering::SeqCst) {
        return;
    }
    for signal in not_ignored(&FATAL) {
        // Where it can't be had, the signal has no effect, as ever.
        let _ = signal_hook::flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&ENDS));
    }
}

/// From now on, a write past the limit of a file's size (`ulimit -f`) fails instead of ending the tool. The processes that the
/// tool starts get the default back.
pub(crate) fn let_large_writes_fail() {
    // Where it can't be had, the signal ends the tool, as ever.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
}

/// Leaves signals to the handlers that were registered before this call.
fn hand_over() {
    ENDS.store(false, Ordering::SeqCst);
}

/// Whether the user asked to stop.
#[derive(Clone, Debug)]
pub(crate) struct Stop(Arc<AtomicUsize>);

impl Stop {
    /// From now on a request to end is noted instead of ending the process. Where that can't be had, it ends the
    /// process as ever. A signal that the process was started to ignore stays ignored.
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

    /// From now on a request to end also ends a wait for another process: for a command that has nothing else to do while it
    /// waits.
    pub(crate) fn ends_waits(self) -> Self {
        for signal in not_ignored(&ENDING) {
            if let Ok(number) = usize::try_from(signal) {
                let _ = signal_hook::flag::register_usize(signal, Arc::clone(&LAST), number);
                let _ = signal_hook::flag::register(signal, Arc::clone(&ENDS_WAITS));
            }
        }
        self
    }

    /// A request was heard, and the command ends in order: only a further one ends its waits.
    pub(crate) fn heard(&self) {
        ENDS_WAITS.store(false, Ordering::Relaxed);
    }

    /// Whether one came.
    pub(crate) fn asked(&self) -> bool {
        self.signal().is_some()
    }

    /// The number of the signal that came last, once: the next call returns only a signal that came after this one.
    pub(crate) fn take(&self) -> Option<u8> {
        u8::try_from(self.0.swap(0, Ordering::Relaxed))
            .ok()
            .filter(|&number| number > 0)
    }

    /// The number of the signal that came last.
    pub(crate) fn signal(&self) -> Option<u8> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            number => u8::try_from(number).ok(),
        }
    }
}

/// The signals that the tool ignores since its start, a bit each.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default()
}

/// Those of these signals that the tool does not ignore since its start.
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

    /// The time between two looks at what the command depends on.
    const LOOK: Duration = Duration::from_secs(1);

    /// The result of a check.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) enum Watch {
        /// All is well: look again.
        GoOn,
        /// The command is asked to end, and nothing is checked any more.
        End,
    }

    /// Catches signals from now on, for a command that is started afterwards. Handlers make them arrive also where the
    /// tool is process 1, which has no default actions.
    pub(crate) struct PassOn(SignalsInfo<WithOrigin>);

    impl PassOn {
        pub(crate) fn from_now_on() -> io::Result<Self> {
            // A command started by `nohup` ignores the signals that the tool was started to ignore. A handler would
            // undo that.
            let caught = super::not_ignored(&super::FATAL).chain(super::not_ignored(&[SIGCONT]));
            let caught = Self(SignalsInfo::new(caught)?);
            super::hand_over();
            Ok(caught)
        }

        /// Runs a command to its end, and passes on to it what arrives meanwhile, and what arrived before. `look` is called
        /// every second; when it says so, the command gets SIGTERM.
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
                // The command is not reaped before the last signal is sent: its id stays its own until then.
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
                                // It fails only if the command has ended.
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
        // A terminal sends these to all of its processes: the command has got them already.
        let by_terminal = matches!(origin.cause, Cause::Kernel) && [SIGINT, SIGQUIT].contains(&origin.signal);
        if let (false, Some(signal)) = (by_terminal, Signal::from_named_raw(origin.signal)) {
            // It fails only if the command has ended.
            let _ = kill_process(pid, signal);
        }
    }
}
