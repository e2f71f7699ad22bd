//! The outcome of a run.

/// The outcome of a run, which is also the exit code. Scripts rely on the codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: the command line or the configuration is refused.
    Usage,
    /// 3: a lock was not acquired within the wait.
    Locked,
    /// 4: the job, item or other name does not exist.
    Missing,
    /// 5: damaged data was found; the other data was printed.
    Damaged,
    /// 6: data was skipped, because it is of another program, larger than `max_record_size`, behind a link, or refused to
    /// this user by the system; the other data was printed.
    Skipped,
    /// 7: the lock was lost while the command of `lock run` ran.
    LockLost,
    /// 128 plus the number of the signal that ended the input (everything read before is stored) or that ended a wait.
    Signal(u8),
    /// The exit code of the command of `lock run`; 128 plus the signal's number if a signal ended it.
    Command(u8),
}

impl Exit {
    /// The exit code of a command that did several things: that of the first failure, and of skipped data only without one.
    #[must_use]
    pub(crate) fn and(self, next: Self) -> Self {
        match self {
            Self::Done => next,
            Self::Skipped if next != Self::Done => next,
            first => first,
        }
    }

    /// The exit code of the process.
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
