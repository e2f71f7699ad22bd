//! Other stores, each used as its documentation recommends for this work, with the row's durability.
//!
//! | peer | an event is | relaxed | strict |
//! |---|---|---|---|
//! | SQLite | a row; a transaction an event, or a batch | WAL, `synchronous` NORMAL | WAL, FULL |
//! | redb | a key and JSON; a transaction an event, or a batch | `Durability::None`, which promises less | `Immediate` |
//! | fjall | a key and JSON | its default, `PersistMode::Buffer` | `SyncData` after each |
//! | tracing-appender, file-rotate | the complete line, one write each | defaults | without a sync, so left out |
//!
//! The cargo feature `peers` compiles them.

#[cfg(feature = "peers")]
pub(crate) mod append;
#[cfg(feature = "peers")]
pub(crate) mod documents;
#[cfg(feature = "peers")]
mod fjall;
#[cfg(feature = "peers")]
mod lines;
#[cfg(feature = "peers")]
pub(crate) mod queue;
#[cfg(feature = "peers")]
mod redb;
#[cfg(feature = "peers")]
pub(crate) mod scan;
#[cfg(feature = "peers")]
mod sqlite;
#[cfg(feature = "peers")]
mod store;

#[cfg(feature = "peers")]
pub(crate) use store::Shared;

#[cfg(not(feature = "peers"))]
mod none;
#[cfg(not(feature = "peers"))]
pub(crate) use none::{append, documents, queue, scan};
