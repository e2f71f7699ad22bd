//! Properties for hostile input: a target is a function of bytes that panics if a property does not hold.
//!
//! # Model
//! `fuzz/fuzz_targets` hands each target the bytes that libFuzzer makes up; the tests of this crate hand it the committed
//! corpus, `fuzz/corpus/<target>`, among it a file for each failure that was ever found. Everything is reached through the
//! public interface of the crates, so that a property is one that a user relies on.
//!
//! # Limitations
//! A target sees small inputs. What takes a hundred megabytes (bombs, endless lines) is in the tests, one by one.
//!
//! # Example
//! ```
//! for (name, target) in prodigy_storage_fuzz::TARGETS {
//!     println!("{name}");
//!     target(b"{\"id\":\"");
//! }
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a panic is how a target tells that a property does not hold"
)]

mod append;
mod checkpoint;
mod compressed;
mod config;
mod cursor;
mod event_line;
mod items;
mod names;
mod oracle;
mod place;
mod segment;
mod shape;
mod values;

pub use append::append;
pub use checkpoint::checkpoint;
pub use compressed::compressed;
pub use config::{config_toml, config_yaml};
pub use cursor::cursor;
pub use event_line::event_line;
pub use items::items;
pub use names::names;
pub use segment::segment;
pub use values::values;

/// A target: panics where a property does not hold.
pub type Target = fn(&[u8]);

/// All targets, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    ("append", append),
    ("checkpoint", checkpoint),
    ("compressed", compressed),
    ("config_toml", config_toml),
    ("config_yaml", config_yaml),
    ("cursor", cursor),
    ("event_line", event_line),
    ("items", items),
    ("names", names),
    ("segment", segment),
    ("values", values),
];
