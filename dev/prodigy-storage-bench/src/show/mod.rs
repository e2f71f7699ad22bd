//! How a report is shown: tables, plots, the page.

pub(crate) mod page;
pub(crate) mod plot;
pub(crate) mod table;
