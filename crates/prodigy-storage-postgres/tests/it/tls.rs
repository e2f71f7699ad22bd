//! TLS with a server whose certificate a test authority signed.

use prodigy_storage_backend::{Deadline, ErrorKind, Result};
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::server::Server;

/// A certificate authority, and the file of its certificate.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: tempfile::NamedTempFile,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// Makes the server use a certificate for this name, signed by the authority.
    fn certify(&self, server: &Server, name: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        for (setting, content) in [
            ("ssl_cert_file", certificate.pem()),
            ("ssl_key_file", key.serialize_pem()),
        ] {
            let path = server.private_file(&format!("{name}.{setting}"), &content);
            server.set(setting, path.to_str().unwrap());
        }
        server.set("ssl", "on");
    }

    fn open(&self, server: &Server, mode: &str) -> Result<PostgresBackend> {
        let url = format!(
            "postgresql://app@localhost:{}/postgres?sslmode={mode}&sslrootcert={}",
            server.port(),
            self.file.path().display()
        );
        PostgresBackend::open(PostgresOptions::new(url), Deadline::never())
    }
}

/// Asserts that opening the store failed with a permanent error whose text contains these words.
fn refused(opened: Result<PostgresBackend>, words: &str) {
    let error = opened.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorised, "{error:#}");
    assert!(!error.is_transient(), "{error:#}");
    assert!(error.to_string().contains(words), "{error:#}");
}

#[test]
fn only_a_certificate_of_a_known_authority_for_the_right_name_is_accepted() {
    let Some(server) = Server::start() else { return };
    let (known, other) = (Authority::new(), Authority::new());
    for mode in ["require", "verify-ca", "verify-full"] {
        refused(known.open(&server, mode), "offers no TLS");
    }
    known.certify(&server, "localhost");
    let backend = known.open(&server, "verify-full").unwrap();
    let encrypted = "select bool_and(ssl) from pg_stat_ssl join pg_stat_activity using (pid) \
                     where application_name = 'prodigy-storage'";
    assert_eq!(server.psql(encrypted), "t\n");
    drop(backend);
    for mode in ["require", "verify-ca", "verify-full"] {
        refused(other.open(&server, mode), "certificate");
    }
    known.certify(&server, "db.example.com");
    for mode in ["require", "verify-ca", "verify-full"] {
        refused(known.open(&server, mode), "certificate");
    }
}
