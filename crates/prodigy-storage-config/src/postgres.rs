//! Settings of the PostgreSQL backend.

use std::fmt;
use std::path::PathBuf;

use prodigy_storage_backend::setters;

use crate::config::StorageConfig;
use crate::environment::Environment;
use crate::kind::BackendKind;
use crate::notice::Notice;

/// The text that is shown instead of a password.
const HIDDEN: &str = "***";
const SCHEMES: [&str; 2] = ["postgres", "postgresql"];
/// The keys of a connection string whose values are shown.
const SHOWN_KEYS: [&str; 20] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "dbname",
    "sslmode",
    "sslrootcert",
    "sslnegotiation",
    "target_session_attrs",
    "load_balance_hosts",
    "application_name",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_retries",
    "channel_binding",
    "passfile",
    "service",
];
/// The usual keys of a connection string of pairs. It has at least one of them.
const PAIR_KEYS: [&str; 10] = [
    "host",
    "hostaddr",
    "port",
    "user",
    "password",
    "passfile",
    "dbname",
    "service",
    "sslmode",
    "connect_timeout",
];

/// Settings of the PostgreSQL backend. `Debug` hides passwords.
///
/// ```
/// use prodigy_storage_config::{BackendKind, PostgresSettings, StorageConfig};
///
/// let postgres = PostgresSettings::default().url(Some("postgresql://app:secret@db.example.com/jobs".into()));
/// let config = StorageConfig::default().backend(BackendKind::Postgres).postgres(postgres);
/// assert!(!format!("{config:?}").contains("secret"));
/// ```
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PostgresSettings {
    /// The connection string, which this backend requires. Default: none.
    pub url: Option<String>,
    /// The schema that contains the tables. Default: `prodigy`.
    pub schema: String,
    /// The name of the program in the server's list of sessions. Default: `prodigy-storage`.
    pub application_name: String,
    /// The password from `PGPASSWORD`, used if [`url`](Self::url) has none. It can't be set in a configuration
    /// file. Default: none.
    pub password: Option<String>,
    /// The path of a password file in libpq's format, from `PGPASSFILE`, or `~/.pgpass`. Default: none.
    pub password_file: Option<PathBuf>,
}

impl PostgresSettings {
    setters! {
        /// Sets [`url`](field@Self::url).
        url: Option<String>,
        /// Sets [`schema`](field@Self::schema).
        schema: into String,
        /// Sets [`application_name`](field@Self::application_name).
        application_name: into String,
        /// Sets [`password`](field@Self::password).
        password: Option<String>,
        /// Sets [`password_file`](field@Self::password_file).
        password_file: Option<PathBuf>,
    }

    /// True if this text is a connection string without a scheme, and not the path of a folder: pairs of key and value, of
    /// which one key is known, or `user:password@host`. A text that begins with `/`, `.` or `~` is a path.
    ///
    /// ```
    /// use prodigy_storage_config::PostgresSettings;
    ///
    /// assert!(PostgresSettings::is_without_scheme("host=db user=app password=secret dbname=jobs"));
    /// assert!(PostgresSettings::is_without_scheme("app:secret@db/jobs"));
    /// assert!(!PostgresSettings::is_without_scheme("runs/size=3"));
    /// assert!(!PostgresSettings::is_without_scheme("./host=db"));
    /// ```
    #[must_use]
    pub fn is_without_scheme(text: &str) -> bool {
        let text = text.trim_start();
        if text.starts_with(['/', '.', '~']) {
            return false;
        }
        // An address with a mistyped scheme.
        let is_mistyped = |scheme: &&str| {
            let rest = text
                .get(..scheme.len())
                .filter(|head| head.eq_ignore_ascii_case(scheme));
            rest.is_some()
                && text
                    .get(scheme.len()..)
                    .is_some_and(|rest| rest.starts_with(['/', ':']))
        };
        if text.contains('@') && SCHEMES.iter().any(is_mistyped) {
            return true;
        }
        let first = text.split('/').next().unwrap_or_default();
        if first.split_once('@').is_some_and(|(user, _)| user.contains(':')) {
            return true;
        }
        // Blanks may surround the `=`.
        let mut parts = text.split('=');
        parts.next_back();
        parts
            .filter_map(|part| part.split_whitespace().next_back())
            .any(|key| PAIR_KEYS.iter().any(|known| key.eq_ignore_ascii_case(known)))
    }

    /// The connection string, with `***` instead of a password; and the schema, if it is not the default. For
    /// messages, and for the marks of a move.
    ///
    /// ```
    /// use prodigy_storage_config::PostgresSettings;
    ///
    /// let postgres = PostgresSettings::default().url(Some("postgresql://app:secret@db/jobs".into())).schema("shop");
    /// assert_eq!(postgres.shown(), "postgresql://app:***@db/jobs (schema shop)");
    /// ```
    #[must_use]
    pub fn shown(&self) -> String {
        let url = self.url.as_deref().map(without_password).unwrap_or_default();
        match self.schema == Self::default().schema {
            true => url,
            false => format!("{url} (schema {})", self.schema),
        }
    }
}

impl Default for PostgresSettings {
    fn default() -> Self {
        Self {
            url: None,
            schema: "prodigy".into(),
            application_name: "prodigy-storage".into(),
            password: None,
            password_file: None,
        }
    }
}

impl fmt::Debug for PostgresSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresSettings")
            .field("url", &self.url.as_deref().map(without_password))
            .field("schema", &self.schema)
            .field("application_name", &self.application_name)
            .field("password", &self.password.as_ref().map(|_| HIDDEN))
            .field("password_file", &self.password_file)
            .finish()
    }
}

/// A connection string without its password. Only what is certain to be no password is shown: a string that is mistyped so
/// that it can't be read is hidden as a whole.
pub(crate) fn without_password(text: &str) -> String {
    let is_scheme = |scheme: &str| scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    let shown = match text.split_once("://") {
        Some((scheme, rest)) if is_scheme(scheme) => {
            address_without_password(rest).map(|rest| format!("{scheme}://{rest}"))
        }
        // A path, say.
        _ if !text.contains(['@', '=', ';']) => Some(text.to_owned()),
        Some(_) => None,
        None => pairs_without_password(text),
    };
    shown.unwrap_or_else(|| HIDDEN.to_owned())
}

/// An address behind its scheme.
fn address_without_password(rest: &str) -> Option<String> {
    let (head, query) = match rest.split_once('?') {
        Some((head, query)) => (head, Some(query)),
        None => (rest, None),
    };
    let (user, place) = match head.rsplit_once('@') {
        Some((user, place)) => (Some(user), place),
        None => (None, head),
    };
    let mut shown = String::new();
    if let Some(user) = user {
        match user.split_once(':') {
            Some((name, _)) => shown = format!("{}:{HIDDEN}@", plain(name)?),
            None => shown = format!("{}@", plain(user)?),
        }
    }
    let (hosts, database) = match place.split_once('/') {
        Some((hosts, database)) => (hosts, Some(database)),
        None => (place, None),
    };
    let hosts: Option<Vec<&str>> = hosts.split(',').map(host).collect();
    shown.push_str(&hosts?.join(","));
    if let Some(database) = database {
        shown.push('/');
        shown.push_str(plain(database)?);
    }
    if let Some(query) = query {
        let pairs = query
            .split('&')
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        let pairs: Option<Vec<String>> = pairs.map(|(key, value)| pair(key, value)).collect();
        shown.push('?');
        shown.push_str(&pairs?.join("&"));
    }
    Some(shown)
}

/// A host with its port, if it is that. A password may be behind a host with two colons.
fn host(text: &str) -> Option<&str> {
    let port = match text.strip_prefix('[') {
        Some(address) => address.split_once(']')?.1,
        None => text.find(':').map_or("", |at| text.get(at..).unwrap_or_default()),
    };
    let is_port = port
        .strip_prefix(':')
        .is_none_or(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
    (is_port && (port.is_empty() || port.starts_with(':'))).then_some(text)
}

/// The text, if it can't contain a password: a text with one of these characters may be several settings, written in a
/// wrong form.
fn plain(text: &str) -> Option<&str> {
    (!text.contains(['@', ':', ';', '=', '?', '&', '\'', ' '])
        && !text.to_ascii_lowercase().contains("password"))
    .then_some(text)
}

/// A setting. The value of an unknown key may be a password, and the key a part of the password before it.
fn pair(key: &str, value: &str) -> Option<String> {
    let is_name = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    if key.is_empty() || !key.bytes().all(is_name) {
        return None;
    }
    let is_known = SHOWN_KEYS.contains(&key);
    let is_of_password = key.to_ascii_lowercase().contains("pass");
    let value = plain(value).filter(|_| is_known).unwrap_or(HIDDEN);
    let key = if is_known || is_of_password { key } else { HIDDEN };
    Some(format!("{key}={value}"))
}

/// A string of pairs `key=value`, whose values may be in quotation marks.
fn pairs_without_password(text: &str) -> Option<String> {
    let mut shown = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let (key, behind) = rest.split_once('=')?;
        let behind = behind.trim_start();
        let value = match behind.strip_prefix('\'') {
            Some(quoted) => {
                let mut is_escaped = false;
                let end = quoted.find(|c| {
                    let ends = c == '\'' && !is_escaped;
                    is_escaped = c == '\\' && !is_escaped;
                    ends
                })?;
                rest = quoted.get(end + 1..)?;
                quoted.get(..end)?
            }
            None => {
                let end = behind.find(char::is_whitespace).unwrap_or(behind.len());
                rest = behind.get(end..)?;
                behind.get(..end)?
            }
        };
        rest = rest.trim_start();
        shown.push(pair(key.trim(), value)?);
    }
    Some(shown.join(" "))
}

/// Sets the password as the clients of PostgreSQL find it, unless it is set already.
pub(crate) fn find_password(
    config: &mut StorageConfig,
    environment: &impl Environment,
    home: Option<&std::path::Path>,
) {
    if config.backend != BackendKind::Postgres {
        return;
    }
    let value = |name| environment.var(name).filter(|value| !value.is_empty());
    let settings = &mut config.postgres;
    if settings.password.is_none() {
        settings.password = value("PGPASSWORD").and_then(|password| password.into_string().ok());
    }
    if settings.password_file.is_none() {
        let file = value("PGPASSFILE").map(PathBuf::from);
        settings.password_file = file.or_else(|| home.map(|home| home.join(".pgpass")));
    }
}

/// The variables by which the clients of PostgreSQL choose a server or protect a connection and that are not read here:
/// the variable, the key of the connection string that makes it pointless, and what to do instead. The variables for the
/// host, the user and the like are left out, since a connection string usually names these.
const IGNORED: [(&str, &str, &str); 12] = [
    (
        "PGSERVICE",
        "service",
        "write the settings of the service into `backend_config.url`",
    ),
    (
        "PGSERVICEFILE",
        "service",
        "write the settings of the service into `backend_config.url`",
    ),
    (
        "PGTARGETSESSIONATTRS",
        "target_session_attrs",
        "write `target_session_attrs` into `backend_config.url`",
    ),
    (
        "PGOPTIONS",
        "options",
        "write `options` into `backend_config.url`",
    ),
    (
        "PGSSLMODE",
        "sslmode",
        "write `sslmode` into `backend_config.url`",
    ),
    (
        "PGSSLROOTCERT",
        "sslrootcert",
        "write `sslrootcert` into `backend_config.url`",
    ),
    (
        "PGSSLCERT",
        "sslcert",
        "certificates of clients are not supported",
    ),
    ("PGSSLKEY", "sslkey", "certificates of clients are not supported"),
    ("PGSSLCRL", "sslcrl", "lists of revoked certificates are not read"),
    (
        "PGCHANNELBINDING",
        "channel_binding",
        "write `channel_binding` into `backend_config.url`",
    ),
    ("PGREQUIREAUTH", "require_auth", "it is not supported"),
    ("PGREQUIREPEER", "requirepeer", "it is not supported"),
];

/// The notices about variables that the clients of PostgreSQL would read.
pub(crate) fn ignored_variables(config: &StorageConfig, environment: &impl Environment) -> Vec<Notice> {
    let Some(url) = config
        .postgres
        .url
        .as_deref()
        .filter(|_| config.backend == BackendKind::Postgres)
    else {
        return Vec::new();
    };
    let is_set = |name| environment.var(name).is_some_and(|value| !value.is_empty());
    let ignored = IGNORED
        .iter()
        .filter(|(name, key, _)| is_set(name) && !url.contains(&format!("{key}=")));
    ignored
        .map(|&(name, _, instead)| Notice::ClientVariable { name, instead })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Loader, MapEnvironment};

    #[test]
    fn no_password_is_shown() {
        for (url, shown) in [
            (
                "postgresql://app:s3cret@db:5432/jobs",
                "postgresql://app:***@db:5432/jobs",
            ),
            (
                "postgres://app:s3:c@r/et@h1,h2/jobs?sslmode=disable",
                "postgres://app:***@h1,h2/jobs?sslmode=disable",
            ),
            ("postgresql://app@db/jobs", "postgresql://app@db/jobs"),
            (
                "postgresql://db/jobs?user=app&password=s3cret&x=y",
                "postgresql://db/jobs?user=app&password=***&***=***",
            ),
            (
                "host=db user=app Password='s3cret s3cret' dbname=jobs",
                "host=db user=app Password=*** dbname=jobs",
            ),
            ("postgresql://app@db/jobs?host=%2Ftmp&p%61ssword=s3cret", "***"),
            (
                "postgresql://app@db/jobs?host=%2Ftmp",
                "postgresql://app@db/jobs?host=%2Ftmp",
            ),
            ("app:s3cret@db/jobs", "***"),
            ("postgresql:/app:s3cret@db/jobs", "***"),
            ("postgres//app:s3cret@db/jobs", "***"),
            (" postgresql://app:s3cret@db/jobs", "***"),
            ("POSTGRESQL://app:s3cret@db/jobs", "POSTGRESQL://app:***@db/jobs"),
            (
                "dbname=jobs user=app passwd=s3cret",
                "dbname=jobs user=app passwd=***",
            ),
            (
                "postgresql://db:5432/jobs?pass=s3cret",
                "postgresql://db:5432/jobs?pass=***",
            ),
            (
                "postgresql://db/jobs?user=app;password=s3cret",
                "postgresql://db/jobs?user=***",
            ),
            ("dbname='postgresql://app:s3cret@db/jobs'", "***"),
            ("postgresql://db:5432:s3cret/jobs", "***"),
            ("postgresql://[::1]:5432/jobs", "postgresql://[::1]:5432/jobs"),
            (
                "host=db password = 's3\\' cret' user=app",
                "host=db password=*** user=app",
            ),
            ("host=db password='s3cret", "***"),
            ("runs/of the night", "runs/of the night"),
            ("https://example.org/a", "https://example.org/a"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    fn the_password_is_where_other_clients_find_it() {
        let environment = MapEnvironment::new()
            .with("HOME", "/home/ada")
            .with("PRODIGY_STORAGE_TYPE", "postgres")
            .with("PRODIGY_STORAGE_URL", "postgresql://app:s3cret@db/jobs");
        let loaded = Loader::new(environment.clone()).load().unwrap();
        let postgres = &loaded.config.postgres;
        assert_eq!(
            (postgres.password.as_deref(), postgres.password_file.as_deref()),
            (None, Some("/home/ada/.pgpass".as_ref()))
        );
        let shown: Vec<String> = loaded.effective().map(|(_, value, _)| value).collect();
        assert!(
            shown.contains(&"postgresql://app:***@db/jobs".to_owned()),
            "{shown:?}"
        );
        assert!(!format!("{loaded:?}{shown:?}").contains("s3cret"));

        let environment = environment
            .with("PGPASSWORD", "other")
            .with("PGPASSFILE", "/run/secrets/db");
        let postgres = Loader::new(environment).load().unwrap().config.postgres;
        assert_eq!(postgres.password.as_deref(), Some("other"));
        assert_eq!(postgres.password_file, Some("/run/secrets/db".into()));
        assert!(!format!("{postgres:?}").contains("other"));
    }

    #[test]
    fn a_variable_of_other_clients_that_would_have_an_effect_is_reported() {
        let environment = MapEnvironment::new()
            .with("HOME", "/home/ada")
            .with("PRODIGY_STORAGE_TYPE", "postgres")
            .with(
                "PRODIGY_STORAGE_URL",
                "postgresql://app@db/jobs?sslmode=verify-full",
            )
            .with("PGSSLMODE", "disable")
            .with("PGSERVICE", "")
            .with("PGHOST", "db2")
            .with("PGSSLROOTCERT", "/etc/mine.pem");
        let notices = Loader::new(environment.clone()).load().unwrap().notices;
        let names: Vec<_> = notices
            .iter()
            .map(|notice| match notice {
                Notice::ClientVariable { name, .. } => *name,
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(names, ["PGSSLROOTCERT"]);
        assert!(
            notices[0]
                .to_string()
                .contains("write `sslrootcert` into `backend_config.url`"),
            "{}",
            notices[0]
        );
        let files = environment
            .with("PRODIGY_STORAGE_TYPE", "file")
            .with("PRODIGY_STORAGE_URL", "");
        assert!(Loader::new(files).load().unwrap().notices.is_empty());
    }

    #[test]
    fn the_backend_needs_a_connection_string() {
        let environment = MapEnvironment::new().with("PRODIGY_STORAGE_TYPE", "postgres");
        let errors = Loader::new(environment).load().unwrap_err().to_string();
        assert!(errors.contains("needs `backend_config.url`"), "{errors}");
    }
}
