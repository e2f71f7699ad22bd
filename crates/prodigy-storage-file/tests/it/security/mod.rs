//! The contents of the root, the rights on it, and the file system below it.

pub mod hooked;
mod links;
mod modes;
mod roots;
pub mod world;
