//! What stands in the root, who may reach it, and what the root stands on.

mod hooked;
mod links;
mod modes;
mod roots;
pub mod world;
