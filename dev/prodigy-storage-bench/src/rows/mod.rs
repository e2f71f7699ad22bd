//! The rows of the table: each measures one kind of work and has a bar, the limit for its value.

pub(crate) mod append;
mod cache;
pub(crate) mod checkpoint;
pub(crate) mod dlq;
pub(crate) mod follow;
mod footprint;
pub(crate) mod log;
pub(crate) mod open;
#[cfg(feature = "postgres")]
pub(crate) mod postgres;
pub(crate) mod processes;
mod report;
pub(crate) mod resident;
mod scan;
mod status;
mod tasks;
pub(crate) mod threads;

use crate::row::Row;

/// All rows, in the order of the table.
pub(crate) fn all() -> Vec<Row> {
    [
        append::rows(),
        threads::rows(),
        tasks::rows(),
        processes::rows(),
        scan::rows(),
        checkpoint::rows(),
        dlq::rows(),
        cache::rows(),
        open::rows(),
        status::rows(),
        report::rows(),
        resident::rows(),
        footprint::rows(),
        follow::rows(),
        #[cfg(feature = "postgres")]
        postgres::rows(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::bar::Bar;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let rows = super::all();
        let keys: BTreeSet<&str> = rows.iter().map(|row| row.key).collect();
        assert_eq!(keys.len(), rows.len());
        let typed = |key: &str| {
            key.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        assert!(keys.iter().all(|key| typed(key)), "{keys:?}");
    }

    #[test]
    fn a_row_without_a_bar_is_a_report_by_intent() {
        let rows = super::all();
        let free: Vec<&str> = rows
            .iter()
            .filter(|row| row.bar == Bar::None)
            .map(|row| row.key)
            .collect();
        assert_eq!(free, ["checkpoint-load"]);
    }
}
