//! Security of the root: its contents, its permissions, and its file system.

pub mod hooked;
mod links;
mod modes;
mod roots;
pub mod world;
