//! Tests of security: the contents of the root, its permissions, and its file system.

pub mod hooked;
mod links;
mod modes;
mod roots;
pub mod world;
