//! The file backend of Prodigy storage.

mod backend;
mod document;
mod fault;
pub mod fs;
mod lockfile;
mod log;
mod named_lock;
mod options;
mod presence;
mod queue;
mod root;
mod store;
mod sync;
mod usage;

pub use backend::FileBackend;
pub use options::FileOptions;
