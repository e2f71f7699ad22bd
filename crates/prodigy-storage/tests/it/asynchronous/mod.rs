//! The interface for tasks.

mod appends;
mod calls;
mod locks;
mod queue;
mod streams;
mod support;
mod surface;
