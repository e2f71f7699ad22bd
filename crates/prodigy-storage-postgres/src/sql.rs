//! SQL statements with their parameters, and reading the columns of a row.

use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, ToSql, Type};
use uuid::Uuid;

/// A parameter with its SQL type. If the types of all parameters are given, the statement need not be prepared,
/// and so works behind every pooler.
pub(crate) trait Param: ToSql + Send + Sync + 'static {
    const TYPE: Type;
}

macro_rules! params {
    ($($rust:ty => $sql:ident, $array:ident;)*) => {$(
        impl Param for $rust {
            const TYPE: Type = Type::$sql;
        }
        impl Param for Option<$rust> {
            const TYPE: Type = Type::$sql;
        }
        impl Param for Vec<$rust> {
            const TYPE: Type = Type::$array;
        }
        impl Param for Vec<Option<$rust>> {
            const TYPE: Type = Type::$array;
        }
    )*};
}

params! {
    bool => BOOL, BOOL_ARRAY;
    i32 => INT4, INT4_ARRAY;
    i64 => INT8, INT8_ARRAY;
    String => TEXT, TEXT_ARRAY;
    Uuid => UUID, UUID_ARRAY;
    Vec<u8> => BYTEA, BYTEA_ARRAY;
}

/// An SQL statement. In its text, `@.` is replaced by the schema, and `{now}` by the server's time in nanoseconds.
pub(crate) struct Sql {
    pub(crate) text: std::borrow::Cow<'static, str>,
    params: Vec<(Box<dyn ToSql + Send + Sync>, Type)>,
    /// True if the statement is prepared where possible: on connections that a single server process serves.
    pub(crate) is_frequent: bool,
}

impl Sql {
    pub(crate) fn new(text: impl Into<std::borrow::Cow<'static, str>>) -> Self {
        Self {
            text: text.into(),
            params: Vec::new(),
            is_frequent: false,
        }
    }

    /// Has the statement prepared once on each connection that a single server process serves. Use it only if
    /// there are few different texts, since each stays prepared until its connection is closed.
    pub(crate) fn frequent(mut self) -> Self {
        self.is_frequent = true;
        self
    }

    /// Adds the next parameter.
    pub(crate) fn arg<P: Param>(mut self, value: P) -> Self {
        self.params.push((Box::new(value), P::TYPE));
        self
    }

    /// Adds the next parameter, and returns its placeholder in the text.
    pub(crate) fn push<P: Param>(&mut self, value: P) -> String {
        self.params.push((Box::new(value), P::TYPE));
        format!("${}", self.params.len())
    }

    pub(crate) fn params(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.params
            .iter()
            .map(|(value, kind)| (&**value as &(dyn ToSql + Sync), kind.clone()))
            .collect()
    }
}

/// Selects the server's time.
pub(crate) fn server_now() -> Sql {
    Sql::new("select {now}")
}

/// Reads a column of a row.
pub(crate) fn column<'a, T: FromSql<'a>>(row: &'a Row, at: usize) -> Result<T> {
    row.try_get(at).map_err(|error| {
        let why = "the server's answer has an unexpected form";
        StorageError::new(ErrorKind::Damaged, "read answer", "database", why)
            .with_hint("check with `prodigy-storage schema show` that nothing changed the tables")
            .with_source(error)
    })
}

/// Reads a column of the first row. `None` if there is no row, or if the value is null.
pub(crate) fn first<'a, T: FromSql<'a>>(rows: &'a [Row], at: usize) -> Result<Option<T>> {
    match rows.first() {
        Some(row) => column(row, at),
        None => Ok(None),
    }
}

/// The rows that one of several statements returned.
pub(crate) fn rows(answers: &[Vec<Row>], at: usize) -> &[Row] {
    answers.get(at).map(Vec::as_slice).unwrap_or_default()
}
