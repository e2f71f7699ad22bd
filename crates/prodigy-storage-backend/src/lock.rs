//! Named locks between processes.

use std::fmt;
use std::str::FromStr;
use std::time::Instant;

use prodigy_storage_layout::{LockName, Timestamp};
use serde::{Deserialize, Serialize, Serializer};

use crate::error::Result;
use crate::fence::InvalidFence;
use crate::setters;

/// The holder of a lock, as the process describes itself. This is only information for people: the operating
/// system or the database decides who holds a lock.
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
    /// The process id.
    pub pid: u32,
    /// The host of the process.
    pub host: String,
    /// The time at which it took the lock.
    pub since: Timestamp,
    /// The purpose for which it took the lock.
    pub purpose: String,
    /// A text that distinguishes the process from another one with the same process id. Its form depends on the
    /// backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

impl Holder {
    /// Describes a process that has held a lock since `since`.
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
    /// The purpose of the lock, which waiting processes see.
    pub purpose: String,
    /// The time at which the caller began to wait, if this call continues an earlier wait. The error of a failed
    /// wait states the whole time.
    pub since: Option<Instant>,
}

impl LockOptions {
    /// Options with this purpose.
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

/// A held lock. It is released when the guard is dropped or the process dies.
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
    /// The name of the lock.
    fn name(&self) -> &LockName;

    /// The fencing token, which is greater than that of every earlier holder. Pass it to the resource that the
    /// lock protects.
    fn fencing(&self) -> u64;

    /// The origin of the token. `None` if the backend can't tell its tokens from equal numbers of another store.
    fn origin(&self) -> Option<LockOrigin> {
        None
    }

    /// True if the guard protects nothing, because locking is disabled.
    fn is_inert(&self) -> bool {
        false
    }

    /// Fails if the lock is no longer held. The lock on a file is lost when the folder of the store is replaced,
    /// and the lease of a lock in a database may end.
    ///
    /// # Errors
    /// [`Replaced`](crate::ErrorKind::Replaced) if the lock is lost: the store was removed, moved or replaced, or the
    /// lease has ended. A database is asked when the lease is renewed, so a lease that was removed there is noticed at
    /// the next renewal.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// The file descriptor of the lock, if it has one. A child process that inherits a copy of it keeps the lock
    /// until the child ends.
    fn descriptor(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
        None
    }

    /// Releases the lock.
    ///
    /// # Errors
    /// [`Replaced`](crate::ErrorKind::Replaced) if the lock was lost before. The error of the operating system or the database.
    fn release(self: Box<Self>) -> Result<()>;
}

/// The origin of a fencing token: it identifies the store that gave out the token, and the moment at which the
/// lock was taken. A restored or newly created store gives its tokens another origin.
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
    /// An origin from two checksums: of the store, and of the taking of the lock. The backend chooses their
    /// inputs.
    #[must_use]
    pub fn new(store: u32, taking: u32) -> Self {
        Self { store, taking }
    }

    /// The checksum that identifies the store.
    #[must_use]
    pub fn store(self) -> u32 {
        self.store
    }
}

/// Writes the origin as 16 hexadecimal digits.
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

/// An entry in the listing of locks.
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
    /// The name of the lock.
    pub name: LockName,
    /// True if a process holds it now.
    pub held: bool,
    /// The process that holds the lock. `None` if the lock is free, or if its holder is unknown: a program that
    /// did not write its description into the lock, or a process that is not visible on this machine.
    pub holder: Option<Holder>,
    /// The process id of a holder that did not write its description into the lock, such as another program that
    /// locked the file. `None` if `holder` is known, or if the system does not report the process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// The last known holder, which may have died long ago.
    pub last_holder: Option<Holder>,
    /// The newest known fencing token of the lock.
    pub fencing: u64,
    /// The origin of that token, if its holder is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<LockOrigin>,
    /// True if a part of the lock's file failed its checksum: it is damaged, or a holder died while it wrote.
    /// Holder and token are then the ones that can still be read, and a newer token may have been given out.
    pub suspect: bool,
}

impl LockInfo {
    /// An entry of the listing.
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

    /// Describes the process that holds the lock, for an error message.
    ///
    /// ```
    /// use prodigy_storage_backend::{Holder, LockInfo};
    /// use prodigy_storage_layout::{LockName, Timestamp};
    ///
    /// let since = Timestamp::from_millis(1_764_018_118_000);
    /// let holder = Holder::new(4711, "build-3".into(), since, "resume".into());
    /// let lock = LockInfo::new(LockName::new("shop/nightly")?, true, Some(holder), 7);
    /// assert_eq!(
    ///     lock.held_by(),
    ///     "process 4711 on build-3 since 2025-11-24T21:01:58.000000Z (resume) holds the lock `shop/nightly`",
    /// );
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn held_by(&self) -> String {
        let process = match (&self.holder, self.pid) {
            (Some(holder), _) => holder.to_string(),
            (None, Some(pid)) => format!("process {pid}"),
            (None, None) => "a process that this system does not name".to_owned(),
        };
        format!("{process} holds the lock `{}`", self.name)
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
