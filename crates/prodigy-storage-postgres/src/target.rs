//! Parses the connection string: hosts, TLS and password.
#![expect(clippy::disallowed_methods, reason = "the password file is a file")]

use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use prodigy_storage_backend::{ErrorKind, Result, StorageError};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;
use tokio_postgres::config::{Host, LoadBalanceHosts, SslMode, TargetSessionAttrs};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::fault::{Stage, fault};
use crate::options::PostgresOptions;

const OPEN: &str = "open database";

/// The parsed settings of a connection.
#[derive(Clone)]
pub(crate) struct Target {
    /// The settings for each server of the connection string, in its order.
    servers: Vec<Config>,
    tls: Tls,
    /// The hosts and the database, without user and password, for messages.
    pub(crate) shown: String,
}

impl Target {
    pub(crate) fn new(options: &PostgresOptions) -> Result<Self> {
        let (url, own) = split(&options.url);
        if let Some((key, instead)) = own.unsupported {
            let why = format!("the connection string has `{key}`, which is not supported");
            return Err(StorageError::new(ErrorKind::InvalidConfig, OPEN, "", why).with_hint(instead));
        }
        // The parser ends the password at the first `@`, and would take the rest of it for a host.
        let address = url.split_once("://").map_or("", |(_, address)| address);
        let address = address.split('?').next().unwrap_or_default();
        if address.matches('@').count() > 1 {
            let why = "the connection string has more than one `@` in its address";
            return Err(invalid("", why).with_hint("write each `@` of a name or a password as `%40`"));
        }
        // The parser's error names at most a key. It is not shown even so, in case it contains a value.
        let mut config: Config = url.parse().map_err(|_| {
            invalid("", "the connection string is invalid").with_hint(
                "write it as postgresql://USER@HOST:PORT/DATABASE, with special characters of names percent-encoded",
            )
        })?;
        // A server repeats the name of the user and the database, and a mistyped string may have its password there.
        let names = [config.get_user(), config.get_dbname()];
        if names
            .iter()
            .flatten()
            .any(|name| name.contains("password=") || name.contains("://"))
        {
            let why = "the name of the user or the database contains `password=` or `://`, as a part of a connection string";
            return Err(
                invalid("", why).with_hint("separate the settings by `&` behind a `?`, and check the quotes")
            );
        }
        let shown = shown(&config);
        if config.get_application_name().is_none() {
            config.application_name(&options.application_name);
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(options.connect_timeout);
        }
        config.keepalives_idle(Duration::from_secs(30));
        if config.get_hosts().len() > 1 && !options.url.contains("target_session_attrs") {
            // Of several servers, only the primary accepts writes.
            config.target_session_attrs(TargetSessionAttrs::ReadWrite);
        }
        let mode = match own.tls_mode.as_deref() {
            Some("disable") => SslMode::Disable,
            None | Some("prefer" | "allow") if is_local(&config) => SslMode::Disable,
            None | Some("prefer" | "allow" | "require" | "verify-ca" | "verify-full") => SslMode::Require,
            Some(_) => {
                return Err(invalid(&shown, "`sslmode` has an unknown value")
                    .with_hint("use `verify-full`, or `disable` for a connection without TLS"));
            }
        };
        config.ssl_mode(mode);
        let tls = Tls(tls(&shown, mode, own.root_certificates.as_deref())?);
        let mut servers = each_server(&config);
        for server in &mut servers {
            if server.get_password().is_none()
                && let Some(password) = password(options, own.password_file.as_deref(), server)?
            {
                server.password(password);
            }
        }
        Ok(Self { servers, tls, shown })
    }

    /// Opens a connection to the first server that gives one. As in libpq, a server has its connection timeout for
    /// the whole of it, and no other server is tried after one that refuses the user or the password.
    pub(crate) async fn connect(
        &self,
        operation: &'static str,
    ) -> Result<(Client, Connection<Socket, TlsStream>)> {
        let mut failed = invalid(&self.shown, "the connection string names no server");
        for server in &self.servers {
            let limit = server.get_connect_timeout().copied().unwrap_or(Duration::MAX);
            failed = match timeout(limit, server.connect(self.tls.clone())).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => fault(error, Stage::Before, operation, &self.shown),
                Err(_) => {
                    let why = format!("{} did not answer within {limit:?}", shown(server));
                    StorageError::new(ErrorKind::Unavailable, operation, &self.shown, why)
                        .with_hint("check that the server runs, and what is between it and this machine")
                }
            };
            if failed.kind() == ErrorKind::Unauthorised {
                break;
            }
        }
        Err(failed)
    }
}

/// The settings for each server alone. The client library applies its timeout to a part of the way only, and has one
/// password for all servers.
fn each_server(config: &Config) -> Vec<Config> {
    let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(addresses.len());
    if count < 2 {
        return vec![config.clone()];
    }
    let server = |at: usize| {
        let mut server = Config::new();
        match hosts.get(at) {
            Some(Host::Tcp(name)) => drop(server.host(name)),
            Some(Host::Unix(path)) => drop(server.host_path(path)),
            None => {}
        }
        if let Some(address) = addresses.get(at) {
            server.hostaddr(*address);
        }
        if let Some(port) = ports.get(at).or(ports.first()) {
            server.port(*port);
        }
        if let Some(user) = config.get_user() {
            server.user(user);
        }
        if let Some(password) = config.get_password() {
            server.password(password);
        }
        if let Some(name) = config.get_dbname() {
            server.dbname(name);
        }
        if let Some(options) = config.get_options() {
            server.options(options);
        }
        if let Some(name) = config.get_application_name() {
            server.application_name(name);
        }
        if let Some(limit) = config.get_connect_timeout() {
            server.connect_timeout(*limit);
        }
        if let Some(limit) = config.get_tcp_user_timeout() {
            server.tcp_user_timeout(*limit);
        }
        if let Some(interval) = config.get_keepalives_interval() {
            server.keepalives_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            server.keepalives_retries(retries);
        }
        server
            .keepalives(config.get_keepalives())
            .keepalives_idle(config.get_keepalives_idle())
            .ssl_mode(config.get_ssl_mode())
            .ssl_negotiation(config.get_ssl_negotiation())
            .channel_binding(config.get_channel_binding())
            .target_session_attrs(config.get_target_session_attrs());
        server
    };
    let mut servers: Vec<Config> = (0..count).map(server).collect();
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        let at = uuid::Uuid::new_v4().as_u128() % count as u128;
        servers.rotate_left(usize::try_from(at).unwrap_or_default());
    }
    servers
}

fn invalid(target: &str, why: &'static str) -> StorageError {
    StorageError::new(ErrorKind::InvalidConfig, OPEN, target, why)
}

/// Settings of libpq that the client library does not support, or only in part. This module handles them itself.
#[derive(Default)]
struct Own {
    tls_mode: Option<String>,
    root_certificates: Option<PathBuf>,
    password_file: Option<PathBuf>,
    /// A key that only libpq supports, and what to do instead.
    unsupported: Option<(&'static str, &'static str)>,
}

/// Keys and values of libpq that neither the client library nor this module supports, each with what to do instead.
/// A key that no one knows is refused by the client library.
const UNSUPPORTED: [(&str, &str); 14] = [
    (
        "service",
        "write the settings of the service into the connection string",
    ),
    (
        "servicefile",
        "write the settings of the service into the connection string",
    ),
    ("sslcert", NO_CERTIFICATE),
    ("sslkey", NO_CERTIFICATE),
    ("sslpassword", NO_CERTIFICATE),
    (
        "sslcrl",
        "leave it out: lists of revoked certificates are not read",
    ),
    (
        "sslcrldir",
        "leave it out: lists of revoked certificates are not read",
    ),
    (
        "requirepeer",
        "leave it out, and connect by TLS to verify the server",
    ),
    (
        "require_auth",
        "leave it out: passwords are sent in the way that the server asks for",
    ),
    ("gssencmode", NO_KERBEROS),
    ("krbsrvname", NO_KERBEROS),
    (
        "target_session_attrs=primary",
        "use `target_session_attrs=read-write`",
    ),
    ("target_session_attrs=standby", NO_STANDBY),
    ("target_session_attrs=prefer-standby", NO_STANDBY),
];
const NO_CERTIFICATE: &str = "use a password: certificates of clients are not supported";
const NO_KERBEROS: &str = "use a password: Kerberos is not supported";
const NO_STANDBY: &str =
    "use `target_session_attrs=read-only`, which finds a server that takes no writes, or name one host";

impl Own {
    fn take(&mut self, key: &str, value: &str) -> bool {
        let whole = format!("{key}={value}");
        let found = UNSUPPORTED
            .iter()
            .find(|(name, _)| *name == key || *name == whole);
        self.unsupported = self.unsupported.or(found.copied());
        match key {
            "sslmode" => self.tls_mode = Some(value.to_owned()),
            "sslrootcert" => self.root_certificates = Some(value.into()),
            "passfile" => self.password_file = Some(value.into()),
            _ => return false,
        }
        true
    }
}

/// Removes these settings from a connection string. Returns the rest and the settings.
fn split(text: &str) -> (String, Own) {
    let mut own = Own::default();
    if let Some((head, query)) = text.split_once('?').filter(|_| text.contains("://")) {
        let rest: Vec<&str> = query
            .split('&')
            .filter(|pair| {
                let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
                !own.take(key, &decoded(value))
            })
            .collect();
        let mark = if rest.is_empty() { "" } else { "?" };
        return (format!("{head}{mark}{}", rest.join("&")), own);
    }
    if text.contains("://") {
        return (text.to_owned(), own);
    }
    // The string has the form `key=value …`. A quoted value may contain spaces, so only words that begin with one
    // of these keys are removed.
    let rest: Vec<&str> = text
        .split(' ')
        .filter(|word| {
            !word
                .split_once('=')
                .is_some_and(|(key, value)| own.take(key, value.trim_matches('\'')))
        })
        .collect();
    (rest.join(" "), own)
}

/// Decodes percent-encoding. An invalid encoding is left as it is.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, behind)) = rest.split_first() {
        let hex = behind
            .get(..2)
            .filter(|_| byte == b'%')
            .and_then(|hex| std::str::from_utf8(hex).ok());
        if let Some(value) = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            out.push(value);
            rest = behind.get(2..).unwrap_or_default();
        } else {
            out.push(byte);
            rest = behind;
        }
    }
    String::from_utf8(out).unwrap_or_else(|_| text.to_owned())
}

/// The hosts of a connection string, each with its port. A single port applies to all hosts.
fn hosts(config: &Config) -> impl Iterator<Item = (&Host, u16)> {
    let ports = config.get_ports();
    let port = move |at| ports.get(at).or(ports.first()).copied().unwrap_or(5432);
    let hosts = config.get_hosts().iter().enumerate();
    hosts.map(move |(at, host)| (host, port(at)))
}

fn shown(config: &Config) -> String {
    let mut out = String::new();
    for (host, port) in hosts(config) {
        let comma = if out.is_empty() { "" } else { "," };
        let _ = match host {
            Host::Tcp(host) => write!(out, "{comma}{host}:{port}"),
            Host::Unix(path) => write!(out, "{comma}{}:{port}", path.display()),
        };
    }
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    let _ = write!(out, "/{database}");
    out
}

fn is_local(config: &Config) -> bool {
    config.get_hosts().iter().all(|host| match host {
        Host::Unix(_) => true,
        Host::Tcp(host) => {
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }) && config.get_hostaddrs().iter().all(std::net::IpAddr::is_loopback)
}

/// The password, if the connection string has none: the given one, or the first match in the password file.
fn password(options: &PostgresOptions, file: Option<&Path>, config: &Config) -> Result<Option<String>> {
    if options.password.is_some() {
        return Ok(options.password.clone());
    }
    let Some(path) = file.or(options.password_file.as_deref()) else {
        return Ok(None);
    };
    // As in libpq, anything but a file is ignored: a pipe, say, could wait without a limit.
    let Some(metadata) = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file) else {
        return Ok(None);
    };
    if metadata.mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "the password file is not used: other users may read it; set its mode to 0600");
        return Ok(None);
    }
    let text = std::fs::read_to_string(path).map_err(|error| {
        StorageError::new(
            ErrorKind::Io,
            OPEN,
            path.display(),
            "the password file cannot be read",
        )
        .with_source(error)
    })?;
    Ok(password_in(&text, config))
}

fn password_in(text: &str, config: &Config) -> Option<String> {
    let user = config.get_user().unwrap_or_default();
    let database = config.get_dbname().unwrap_or(user);
    let fits = |pattern: &str, value: &str| pattern == "*" || pattern == value;
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .find_map(|line| {
            let fields = fields(line);
            let [host, port, of_database, of_user, password] = fields.as_slice() else {
                return None;
            };
            let is_host = hosts(config).any(|(name, number)| {
                let name = match name {
                    Host::Tcp(name) => name,
                    Host::Unix(_) => "localhost",
                };
                fits(host, name) && fits(port, &number.to_string())
            });
            let is_ours = is_host && fits(of_database, database) && fits(of_user, user);
            is_ours.then(|| password.clone())
        })
}

/// The fields of a line of a password file. A backslash escapes a colon or a backslash.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let last = fields.len() - 1;
        match (c, fields.get_mut(last)) {
            (':', _) => fields.push(String::new()),
            ('\\', Some(field)) => field.extend(chars.next()),
            (c, Some(field)) => field.push(c),
            (_, None) => {}
        }
    }
    fields
}

/// The TLS settings of a connection. A Unix socket has no host name to verify; for it, a TLS session is created
/// but never used.
#[derive(Clone)]
struct Tls(MakeRustlsConnect);

type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

impl MakeTlsConnect<Socket> for Tls {
    type Stream = TlsStream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, host: &str) -> std::result::Result<Self::TlsConnect, Self::Error> {
        let name = if host.is_empty() { "localhost" } else { host };
        MakeTlsConnect::<Socket>::make_tls_connect(&mut self.0, name)
    }
}

/// The TLS settings that verify the server's certificate and its host name.
fn tls(shown: &str, mode: SslMode, roots: Option<&Path>) -> Result<MakeRustlsConnect> {
    let mut store = rustls::RootCertStore::empty();
    if mode != SslMode::Disable {
        match roots {
            Some(path) => {
                let unreadable = |error| {
                    StorageError::new(
                        ErrorKind::InvalidConfig,
                        OPEN,
                        path.display(),
                        "`sslrootcert` cannot be read",
                    )
                    .with_hint("name a file with the certificates of the authority, in PEM")
                    .with_source(std::io::Error::other(error))
                };
                for certificate in
                    CertificateDer::pem_file_iter(path).map_err(|error| unreadable(error.to_string()))?
                {
                    let certificate = certificate.map_err(|error| unreadable(error.to_string()))?;
                    store
                        .add(certificate)
                        .map_err(|error| unreadable(error.to_string()))?;
                }
            }
            None => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if store.is_empty() {
            return Err(invalid(shown, "no certificate authority is known, so the server's certificate cannot be verified")
                .with_hint("install the certificates of the system, or name a file by `sslrootcert` in the connection string"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| invalid(shown, "TLS cannot be set up").with_source(error))?
        .with_root_certificates(store)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Target {
        fn first(&self) -> &Config {
            &self.servers[0]
        }
    }

    fn target(url: &str) -> Target {
        Target::new(&PostgresOptions::new(url)).unwrap()
    }

    #[test]
    fn tls_is_off_for_local_hosts_only() {
        let local = [
            "postgresql://a@localhost/b",
            "postgresql://a@127.0.0.1,localhost/b",
            "host=/var/run/postgresql user=a",
        ];
        for url in local {
            assert_eq!(target(url).first().get_ssl_mode(), SslMode::Disable, "{url}");
        }
        let remote = "postgresql://a@localhost,db.example.com/b";
        for mode in ["", "?sslmode=prefer", "?sslmode=require", "?sslmode=verify-full"] {
            let certificate = tempfile::NamedTempFile::new().unwrap();
            let url = format!(
                "{remote}{mode}{}sslrootcert={}",
                if mode.is_empty() { "?" } else { "&" },
                certificate.path().display()
            );
            // With an empty file of certificates no server could be verified, so the file is refused.
            let error = Target::new(&PostgresOptions::new(url)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{mode}: {error}");
        }
        assert_eq!(
            target(&format!("{remote}?sslmode=disable"))
                .first()
                .get_ssl_mode(),
            SslMode::Disable
        );
    }

    #[test]
    fn a_password_is_found_as_libpq_finds_it_and_never_shown() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(
            &mut file,
            b"# comment\nother:*:*:*:no\nlocalhost:5433:jobs:a:s\\:e\\\\cret\n*:*:*:*:any\n",
        )
        .unwrap();
        let with_file = |url: &str| PostgresOptions::new(url).password_file(Some(file.path().to_owned()));
        let found = |options: &PostgresOptions| {
            Target::new(options)
                .unwrap()
                .first()
                .get_password()
                .map(<[u8]>::to_vec)
        };
        assert_eq!(
            found(&with_file("postgresql://a@localhost:5433/jobs")),
            Some(b"s:e\\cret".to_vec())
        );
        assert_eq!(
            found(&with_file("postgresql://b@localhost:5433/jobs")),
            Some(b"any".to_vec())
        );
        let given = with_file("postgresql://a@localhost:5433/jobs").password(Some("given".into()));
        assert_eq!(found(&given), Some(b"given".to_vec()));
        let inside = with_file("postgresql://a:inside@localhost:5433/jobs").password(Some("given".into()));
        assert_eq!(found(&inside), Some(b"inside".to_vec()));
        assert!(!format!("{inside:?}{}", Target::new(&inside).unwrap().shown).contains("inside"));

        use std::os::unix::fs::PermissionsExt;
        file.as_file()
            .set_permissions(std::fs::Permissions::from_mode(0o640))
            .unwrap();
        assert_eq!(
            found(&with_file("postgresql://a@localhost:5433/jobs")),
            None,
            "others may read the file"
        );
    }

    #[test]
    fn a_second_at_sign_is_refused_without_showing_what_stands_beside_it() {
        for url in [
            "postgresql://a:se@cret@127.0.0.1/jobs",
            "postgresql://a:s@SE/CRET@127.0.0.1/jobs",
            "postgresql://a@cret@127.0.0.1/jobs?sslmode=disable",
        ] {
            let refused = Target::new(&PostgresOptions::new(url)).map(drop).unwrap_err();
            let text = format!("{refused:#} {}", refused.hint().unwrap_or_default());
            assert!(
                text.contains("%40") && !text.to_lowercase().contains("cret"),
                "{text}"
            );
        }
        assert_eq!(target("postgresql://a:s%40t@h/b").shown, "h:5432/b");
    }

    #[test]
    fn several_hosts_are_searched_for_the_primary() {
        let two = target("postgresql://a@127.0.0.1:1,127.0.0.1:2/b");
        assert_eq!(
            two.first().get_target_session_attrs(),
            TargetSessionAttrs::ReadWrite
        );
        assert_eq!(two.shown, "127.0.0.1:1,127.0.0.1:2/b");
        let any = target("postgresql://a@127.0.0.1:1,127.0.0.1:2/b?target_session_attrs=any");
        assert_eq!(any.first().get_target_session_attrs(), TargetSessionAttrs::Any);
    }

    #[test]
    fn what_only_libpq_supports_is_refused_by_its_name() {
        for (url, named) in [
            ("postgresql://a@h/b?service=mine", "`service`"),
            (
                "postgresql://a@h/b?sslmode=require&sslcert=%2Fmine.crt",
                "`sslcert`",
            ),
            ("service=mine", "`service`"),
            (
                "postgresql://a@h/b?target_session_attrs=standby",
                "`target_session_attrs=standby`",
            ),
            (
                "host=h user=a target_session_attrs='prefer-standby'",
                "`target_session_attrs=prefer-standby`",
            ),
            (
                "postgresql://a@h/b?target_session_attrs=primary",
                "`target_session_attrs=primary`",
            ),
        ] {
            let error = Target::new(&PostgresOptions::new(url)).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::InvalidConfig, "{url}");
            assert!(
                error.to_string().contains(named) && error.hint().is_some(),
                "{url}: {error}"
            );
        }
        let kept = target("postgresql://a@localhost/b?target_session_attrs=read-only");
        assert_eq!(
            kept.first().get_target_session_attrs(),
            TargetSessionAttrs::ReadOnly
        );
    }

    #[test]
    fn a_broken_connection_string_is_refused_without_its_text() {
        let error = Target::new(&PostgresOptions::new("postgresql://a:secret@h:port/b"))
            .err()
            .unwrap();
        assert!(!format!("{error:#?}").contains("secret"), "{error:#?}");
    }
}
