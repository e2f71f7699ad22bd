//! Named locks between processes.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use prodigy_storage_layout::{LockName, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::Result;
use crate::fence::InvalidFence;
use crate::setters;

/// The holder of a lock, in its own words: information only, the kernel (or the database) decides.
///
/// ```
/// use prodigy_storage_backend::Holder;
/// use prodigy_storage_layout::Timestamp;
///
/// let since = Timestamp::from_millis(1_764_018_118_000);
/// let holder = Holder::new(4711, "build-3".into(), since, "resume the job".into());
/// assert_eq!(
///     holder.to_string(),
///     "process 4711 on build-3 since 2025-11-24T21:01:58.000000Z (resume the job)",
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its host.
    pub host: String,
    /// Since when it holds the lock.
    pub since: Timestamp,
    /// The purpose of the lock.
    pub purpose: String,
    /// A mark that distinguishes it from other processes with the same id; the backend chooses its form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl Holder {
    /// This process, from `since` on.
    #[must_use]
    pub fn new(pid: u32, host: String, since: Timestamp, purpose: String) -> Self {
        Self {
            pid,
            host,
            since,
            purpose,
            instance: None,
        }
    }

    /// Sets [`instance`](Self::instance).
    #[must_use]
    pub fn instance(mut self, instance: Option<String>) -> Self {
        self.instance = instance;
        self
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {} on {} since {}",
            self.pid,
            crate::escape(&self.host),
            self.since.to_rfc3339()
        )?;
        if !self.purpose.is_empty() {
            write!(f, " ({})", crate::escape(&self.purpose))?;
        }
        Ok(())
    }
}

/// How to take a lock.
///
/// ```
/// use prodigy_storage_backend::LockOptions;
///
/// assert_eq!(LockOptions::new("resume the job").purpose, "resume the job");
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct LockOptions {
    /// The purpose of the lock; waiting processes see it.
    pub purpose: String,
    /// Since when the caller waits, if this call continues an earlier one: the error of a wait without success says how long
    /// it was.
    pub since: Option<Instant>,
}

impl LockOptions {
    /// For this purpose.
    #[must_use]
    pub fn new(purpose: impl Into<String>) -> Self {
        Self {
            purpose: purpose.into(),
            since: None,
        }
    }

    setters! {
        /// Sets [`since`](Self::since).
        since: into Option<Instant>,
    }
}

/// A lock that is held. Dropping it releases it; so does the death of the process.
///
/// ```
/// use prodigy_storage_backend::{Fence, LockGuard, PutOptions, Result};
///
/// /// A write that is refused once another holder has written.
/// fn fenced(guard: &dyn LockGuard) -> Result<PutOptions> {
///     guard.check()?;
///     Ok(PutOptions::default().fencing(Some(Fence::of(guard)?)))
/// }
/// # let _ = fenced;
/// ```
#[must_use = "the lock is released as soon as the guard is dropped"]
pub trait LockGuard: fmt::Debug + Send + Sync {
    /// Its name.
    fn name(&self) -> &LockName;

    /// The fencing token: above that of every earlier holder. Hand it to what the lock protects.
    fn fencing(&self) -> u64;

    /// The origin of the token. `None` if the backend can't distinguish two stores that give out the same numbers.
    fn origin(&self) -> Option<LockOrigin> {
        None
    }

    /// Whether it protects nothing, since locking is disabled.
    fn is_inert(&self) -> bool {
        false
    }

    /// Fails if the lock is no longer held: a lock on a file is lost with the folder of the store, and a lease can end.
    ///
    /// # Errors
    /// [`Replaced`](crate::ErrorKind::Replaced) if the store is no longer at its place.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The descriptor that carries the lock, if it has one: a child process that inherits a duplicate keeps
    /// the lock as long as it lives.
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// The error of the operating system or the database.
    fn release(self: Box<Self>) -> Result<()>;
}

/// The origin of a fencing token: the store that gave it out, and the moment at which its holder took the lock. The
/// token of a root that was restored or created again has another origin.
///
/// ```
/// use prodigy_storage_backend::LockOrigin;
///
/// let origin = LockOrigin::new(0x0123_4567, 0x89ab_cdef);
/// assert_eq!(origin.to_string(), "0123456789abcdef");
/// assert_eq!("0123456789abcdef".parse(), Ok(origin));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LockOrigin {
    store: u32,
    taking: u32,
}

impl LockOrigin {
    /// An origin of two checksums, which the backend chooses.
    #[must_use]
    pub fn new(store: u32, taking: u32) -> Self {
        Self { store, taking }
    }

    /// The checksum of the store.
    #[must_use]
    pub fn store(self) -> u32 {
        self.store
    }
}

/// 16 hexadecimal digits.
impl fmt::Display for LockOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}{:08x}", self.store, self.taking)
    }
}

impl Serialize for LockOrigin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl FromStr for LockOrigin {
    type Err = InvalidFence;

    fn from_str(text: &str) -> Result<Self, InvalidFence> {
        let is_hex = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u64::from_str_radix(text, 16) {
            Ok(both) if is_hex => Ok(Self {
                store: (both >> 32) as u32,
                taking: both as u32,
            }),
            _ => Err(InvalidFence::Form),
        }
    }
}

/// A line of the listing of locks.
///
/// ```
/// use prodigy_storage_backend::{Deadline, LockStore, PageOptions, Result};
///
/// fn print_held(locks: &dyn LockStore) -> Result<()> {
///     for info in locks.locks(&PageOptions::default(), Deadline::never())?.entries {
///         if let (true, Some(holder)) = (info.held, &info.holder) {
///             println!("{}: {holder}", info.name);
///         }
///     }
///     Ok(())
/// }
/// # let _ = print_held;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LockInfo {
    /// Its name.
    pub name: LockName,
    /// True if a process holds it now.
    pub held: bool,
    /// The process that holds it. `None` for a free lock, and for one whose holder is not known: a program that did not
    /// say who it is, or a process that can't be seen from here.
    pub holder: Option<Holder>,
    /// The id of the process that holds it and did not say who it is: another program that locked the file. `None` if `holder`
    /// is known, and where the system does not name that process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The process that took it last, as far as is known. It may have died long ago.
    pub last_holder: Option<Holder>,
    /// The newest fencing token given out.
    pub fencing: u64,
    /// The origin of that token, if its holder is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<LockOrigin>,
    /// Whether a part of what is stored of it does not verify, by damage or because a holder died while it signed:
    /// holder and token are then those that can still be read, and a newer token may have been given out.
    pub suspect: bool,
}

impl LockInfo {
    /// A line of the listing.
    #[must_use]
    pub fn new(name: LockName, held: bool, holder: Option<Holder>, fencing: u64) -> Self {
        Self {
            name,
            held,
            last_holder: holder.clone(),
            holder,
            pid: None,
            fencing,
            origin: None,
            suspect: false,
        }
    }

    setters! {
        /// Sets [`origin`](Self::origin).
        origin: Option<LockOrigin>,

        /// Sets [`pid`](Self::pid).
        pid: Option<u32>,

        /// Sets [`last_holder`](Self::last_holder).
        last_holder: Option<Holder>,

        /// Sets [`suspect`](Self::suspect).
        suspect: bool,
    }
}
