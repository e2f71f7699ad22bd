//! How a run ends.

/// How a run ended; scripts rely on the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: the command line or the configuration is refused.
    Usage,
    /// 3: a lock was not acquired in the time given.
    Locked,
    /// 4: no such job or item.
    Missing,
    /// 5: damaged data was found; the rest was printed.
    Damaged,
    /// 6: data was skipped that is another program's, larger than `max_record_size`, or behind a link; the rest was printed.
    Skipped,
    /// 7: the lock that a command ran under was lost while the command ran.
    LockLost,
    /// 128 and the number of the signal that ended the reading of input, when all that was read is stored, or that ended a wait.
    Signal(u8),
    /// The code that a command run under a lock ended with; 128 and the signal's number where one ended it.
    Command(u8),
}

impl Exit {
    /// The code that the process ends with.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Locked => 3,
            Self::Missing => 4,
            Self::Damaged => 5,
            Self::Skipped => 6,
            Self::LockLost => 7,
            Self::Signal(signal) => 128_u8.saturating_add(signal),
            Self::Command(code) => code,
        }
    }
}
