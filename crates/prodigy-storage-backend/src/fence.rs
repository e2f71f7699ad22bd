//! Fencing: refuses writes by overtaken holders of a lock.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use prodigy_storage_layout::{Document, LockName};
use serde::{Deserialize, Serialize};

use crate::error::{ErrorKind, Result, StorageError};
use crate::lock::{LockGuard, LockOrigin};

const CHECK: &str = "check fencing token";

/// The fencing token of one holder of a lock, with the name of that lock and the origin of the token.
///
/// Two stores may give out equal numbers, such as a store and its restored copy. The origin is then different: it
/// says which store gave out the token. It is compared with the file of the lock, so a token with an origin always
/// has the name of its lock. A token without an origin is valid in every store.
///
/// A write under this token fails with [`Fenced`](ErrorKind::Fenced) once the job has seen a greater token of the same
/// lock. A token without a lock's name is compared with other tokens without one.
///
/// ```
/// use prodigy_storage_backend::Fence;
///
/// let fence: Fence = "shop/resume=5".parse()?;
/// assert_eq!((fence.lock().unwrap().as_str(), fence.token()), ("shop/resume", 5));
/// assert_eq!("5".parse::<Fence>()?, Fence::unnamed(5)?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fence {
    lock: Option<LockName>,
    token: u64,
    origin: Option<LockOrigin>,
}

impl Fence {
    /// The greatest token that is accepted without an origin. A lock's own tokens stay far below it, and greater
    /// ones remain for the lock to give out. So a person who types a wrong number can't lock out every later
    /// holder.
    pub const MAX: u64 = u64::MAX / 2;

    /// The fencing token of a held lock.
    ///
    /// # Errors
    /// [`Refused`](ErrorKind::Refused) for an inert guard, which is one of disabled locking: its token protects
    /// nothing.
    pub fn of(guard: &dyn LockGuard) -> Result<Self> {
        if guard.is_inert() {
            return Err(StorageError::new(
                ErrorKind::Refused,
                "take fencing token",
                guard.name(),
                "locking is disabled: the guard is inert and has no fencing token",
            )
            .with_hint("set `enable_locking: true`, or write without a token"));
        }
        Ok(Self {
            origin: guard.origin(),
            ..Self::stored(Some(guard.name().clone()), guard.fencing())?
        })
    }

    /// A token of a named lock, without an origin.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for 0, since tokens begin at 1, and for a number above [`MAX`](Self::MAX).
    pub fn new(lock: LockName, token: u64) -> Result<Self> {
        let lock = Some(lock);
        Self::unnamed(token).map(|fence| Self { lock, ..fence })
    }

    /// A token without the name of its lock.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn unnamed(token: u64) -> Result<Self> {
        if token > Self::MAX {
            return Err(StorageError::invalid(
                CHECK,
                token,
                format!(
                    "no lock gives out this token, and it would fence off every later holder: without an origin the greatest number is {}",
                    Self::MAX
                ),
            ));
        }
        Self::stored(None, token)
    }

    /// A token that was read from a document or a lock. It may be above [`MAX`](Self::MAX).
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for 0, since tokens begin at 1.
    pub fn stored(lock: Option<LockName>, token: u64) -> Result<Self> {
        if token == 0 {
            return Err(StorageError::invalid(
                CHECK,
                token,
                "no lock has this token: tokens begin at 1",
            ));
        }
        Ok(Self {
            lock,
            token,
            origin: None,
        })
    }

    /// The name of the lock, if it is known.
    #[must_use]
    pub fn lock(&self) -> Option<&LockName> {
        self.lock.as_ref()
    }

    /// The number of the token.
    #[must_use]
    pub fn token(&self) -> u64 {
        self.token
    }

    /// The origin of the token, if it is known.
    #[must_use]
    pub fn origin(&self) -> Option<LockOrigin> {
        self.origin
    }

    /// The text of the token with its origin, but without the name of its lock: `5@0123456789abcdef`. It is a
    /// complete fencing token only with the name before it.
    #[must_use]
    pub fn token_text(&self) -> String {
        match self.origin {
            Some(origin) => format!("{}@{origin}", self.token),
            None => self.token.to_string(),
        }
    }
}

/// Writes `5`, `NAME=5`, or with an origin `NAME=5@0123456789abcdef`.
impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(lock) = &self.lock {
            write!(f, "{lock}=")?;
        }
        f.write_str(&self.token_text())
    }
}

/// The error for a text that is not a fencing token.
///
/// ```
/// use prodigy_storage_backend::Fence;
///
/// assert!("0".parse::<Fence>().is_err());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidFence {
    /// The text does not have the form of a fencing token.
    #[error("a fencing token is NUMBER, NAME=NUMBER or NAME=NUMBER@ORIGIN, with a number above 0")]
    Form,
    /// The text is a number without an origin that is greater than any that a lock gives out.
    #[error(
        "no lock gives out so great a token, and it would fence off every later holder: without an origin the greatest number is {}",
        Fence::MAX
    )]
    TooGreat,
    /// The text has an origin but no lock's name, so the origin can't be checked.
    #[error(
        "a token with its origin needs the name of its lock before it: NAME=NUMBER@ORIGIN. Under `lock run` that is \
         \"$PRODIGY_LOCK_NAME=$PRODIGY_LOCK_FENCING\""
    )]
    WithoutLock,
}

/// The same as `Display`: a `main` that returns the error prints it so.
impl fmt::Debug for InvalidFence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fence {
    type Err = InvalidFence;

    fn from_str(text: &str) -> Result<Self, InvalidFence> {
        let (lock, token) = match text.rsplit_once('=') {
            Some((name, token)) => (Some(LockName::new(name).map_err(|_| InvalidFence::Form)?), token),
            None => (None, text),
        };
        let (token, origin) = match token.split_once('@') {
            Some((token, origin)) => (token, Some(origin.parse()?)),
            None => (token, None),
        };
        match token.parse() {
            Ok(token) if token > 0 => match (&lock, origin) {
                (None, Some(_)) => Err(InvalidFence::WithoutLock),
                (_, None) if token > Self::MAX => Err(InvalidFence::TooGreat),
                _ => Ok(Self { lock, token, origin }),
            },
            _ => Err(InvalidFence::Form),
        }
    }
}

/// The fencing marks of a job: for each lock, the greatest token under which the job was written to. A mark never
/// becomes smaller.
///
/// A backend stores the marks beside the job's documents, and checks and raises them in the critical section of
/// the write. A raised mark is durable before the write is visible. So after a crash there may be a mark without
/// its write, which refuses only overtaken holders, but never a write without its mark.
///
/// ```
/// use prodigy_storage_backend::{ErrorKind, Fence, FenceMarks};
/// use prodigy_storage_layout::LockName;
///
/// let lock = LockName::new("shop/resume").expect("a valid name");
/// let mut marks = FenceMarks::default();
/// marks.raise(&Fence::new(lock.clone(), 7)?);
/// let overtaken = marks.check("save checkpoint", "shop/mapreduce-7", &Fence::new(lock, 6)?).unwrap_err();
/// assert_eq!(overtaken.kind(), ErrorKind::Fenced);
/// # Ok::<(), prodigy_storage_backend::StorageError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FenceMarks(BTreeMap<Option<LockName>, u64>);

#[derive(Serialize, Deserialize)]
struct Stored {
    marks: Vec<StoredMark>,
}

#[derive(Serialize, Deserialize)]
struct StoredMark {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lock: Option<String>,
    token: u64,
}

impl FenceMarks {
    /// Refuses a write or deletion that no caller may make: one of the marks themselves, and one under a token if
    /// the document belongs to no job.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput).
    pub fn check_target(operation: &'static str, document: &Document, fence: Option<&Fence>) -> Result<()> {
        let why = match document {
            Document::Fencing(_) => "the store keeps the fencing marks of a job itself",
            _ if fence.is_some() && document.job().is_none() => {
                "a fencing token belongs to a job, and the document to none"
            }
            _ => return Ok(()),
        };
        Err(StorageError::invalid(operation, format!("{document:?}"), why))
    }

    /// Parses the body of the document that stores the marks.
    ///
    /// # Errors
    /// The error of `serde_json` if the body does not hold marks.
    pub fn parse(body: &[u8]) -> Result<Self, serde_json::Error> {
        let stored: Stored = serde_json::from_slice(body)?;
        let mut marks = Self::default();
        for StoredMark { lock, token } in stored.marks {
            let lock = lock.map(LockName::new).transpose();
            let lock = lock.map_err(|_| serde::de::Error::custom("a lock has a name that is refused"))?;
            marks.raise(&Fence {
                lock,
                token,
                origin: None,
            });
        }
        Ok(marks)
    }

    /// The body of the document that stores the marks.
    #[must_use]
    pub fn to_body(&self) -> impl Serialize + use<> {
        let marks = self.0.iter().map(|(lock, token)| StoredMark {
            lock: lock.as_ref().map(|lock| lock.as_str().to_owned()),
            token: *token,
        });
        Stored {
            marks: marks.collect(),
        }
    }

    /// Fails if the token is overtaken: the mark of its lock is greater.
    ///
    /// # Errors
    /// [`Fenced`](ErrorKind::Fenced).
    pub fn check(&self, operation: &'static str, target: impl fmt::Display, fence: &Fence) -> Result<()> {
        match self.0.get(&fence.lock) {
            Some(mark) if *mark > fence.token => {
                let lock = fence.lock.as_ref().map(|lock| format!(" of lock {lock}"));
                let lock = lock.unwrap_or_default();
                let token = fence.token;
                Err(StorageError::new(
                    ErrorKind::Fenced,
                    operation,
                    target,
                    format!(
                        "the write has fencing token {token}{lock}, and the job was written to under {mark}"
                    ),
                )
                .with_hint(
                    "another process took the lock since: stop, or take the lock again and read the data again",
                ))
            }
            _ => Ok(()),
        }
    }

    /// Sets the mark of the token's lock to the token, if the token is greater. Returns true if the mark changed.
    pub fn raise(&mut self, fence: &Fence) -> bool {
        let mark = self.0.entry(fence.lock.clone()).or_default();
        let raised = fence.token > *mark;
        *mark = fence.token.max(*mark);
        raised
    }

    /// Raises each mark to that of the same lock in `others`, if the latter is greater.
    pub fn include(&mut self, others: Self) {
        for (lock, token) in others.0 {
            let mark = self.0.entry(lock).or_default();
            *mark = token.max(*mark);
        }
    }

    /// The named locks that have a mark, each with its mark.
    pub fn named(&self) -> impl Iterator<Item = (&LockName, u64)> {
        self.0
            .iter()
            .filter_map(|(lock, token)| Some((lock.as_ref()?, *token)))
    }

    /// True if there is no mark, since no write has carried a token yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence(text: &str) -> Fence {
        text.parse().unwrap()
    }

    #[test]
    fn marks_rise_by_lock_and_read_back() {
        let mut marks = FenceMarks::default();
        assert!(marks.is_empty() && marks.raise(&fence("5")) && marks.raise(&fence("a/b=7")));
        assert!(!marks.raise(&fence("4")) && !marks.raise(&fence("a/b=7")));
        let check = |text: &str| {
            marks
                .check("test", "x", &fence(text))
                .map_err(|error| error.kind())
        };
        assert_eq!(check("5"), Ok(()));
        assert_eq!(check("6"), Ok(()));
        assert_eq!(check("other=1"), Ok(()));
        assert_eq!(check("4"), Err(ErrorKind::Fenced));
        assert_eq!(check("a/b=6"), Err(ErrorKind::Fenced));
        let body = serde_json::to_vec(&marks.to_body()).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&body),
            r#"{"marks":[{"token":5},{"lock":"a/b","token":7}]}"#
        );
        assert_eq!(FenceMarks::parse(&body).unwrap(), marks);
        for wrong in ["{}", r#"{"marks":[{"lock":"..","token":1}]}"#, r#"{"marks":7}"#] {
            assert!(FenceMarks::parse(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_is_a_number_above_0() {
        for wrong in [
            "",
            "0",
            "a=0",
            "-1",
            "a",
            "=5",
            "a/=5",
            "18446744073709551616",
            "5@",
            "5@0",
            "@0123456789abcdef",
        ] {
            assert_eq!(wrong.parse::<Fence>(), Err(InvalidFence::Form), "{wrong}");
        }
        for beyond in ["18446744073709551615", "a/b=9223372036854775808"] {
            assert_eq!(beyond.parse::<Fence>(), Err(InvalidFence::TooGreat), "{beyond}");
        }
        let unnamed = "5@0123456789abcdef".parse::<Fence>().unwrap_err();
        assert_eq!(unnamed, InvalidFence::WithoutLock);
        assert!(
            unnamed
                .to_string()
                .contains("$PRODIGY_LOCK_NAME=$PRODIGY_LOCK_FENCING")
        );
        for text in [
            "5",
            "a/b=5",
            "9223372036854775807",
            "a/b=5@0123456789abcdef",
            "a/b=9223372036854775808@0123456789abcdef",
        ] {
            assert_eq!(fence(text).to_string(), text);
        }
        for wrong in [0, Fence::MAX + 1, u64::MAX] {
            let refused = Fence::unnamed(wrong).unwrap_err();
            assert_eq!(refused.kind(), ErrorKind::InvalidInput, "{wrong}");
        }
        assert_eq!(Fence::unnamed(0).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
