//! The output of a report: tables, plots, and the page.

pub(crate) mod page;
pub(crate) mod plot;
pub(crate) mod table;
