//! Checkpoints: the bodies that a put accepts, and reading files that others wrote.

use prodigy_storage_backend::{Body, DocumentStore, ErrorKind, PutOptions};
use prodigy_storage_layout::Document;

use crate::store::{NEVER, Store};

fn deep(depth: usize) -> String {
    format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth))
}

#[test]
fn what_is_no_body_and_what_is_put_and_got() {
    for refused in [
        deep(128).as_bytes(),
        deep(100_000).as_bytes(),
        "{\"a\":".repeat(100_000).as_bytes(),
        br#"{"a":"\ud800"}"#,
        b"\xef\xbb\xbf{}",
        b"{}\0",
        b"{\"a\":\"\xff\"}",
        b"{\"a\":\"\0\"}",
        b"",
        b"[]",
    ] {
        assert!(Body::parse(refused).is_err());
    }
    for taken in [
        deep(127).as_bytes(),
        b"{\r\n\"a\":1}\r\n",
        b"{\"a\":1e999}",
        format!("{{\"a\":{}}}", "9".repeat(400)).as_bytes(),
        b"{\"a\":1,\"a\":2}",
        b"{\"a\":\"\\u0000\"}",
    ] {
        let store = Store::new();
        let document = Document::Setup(store.job.clone());
        let body = Body::parse(taken).unwrap();
        let options = PutOptions::default();
        store.backend().put(&document, body, &options, NEVER).unwrap();
        let got = store.backend().get(&document, NEVER).unwrap().unwrap();
        assert_eq!(got.body(), taken.trim_ascii());
    }
}

#[test]
fn what_a_file_of_another_program_gives() {
    let cases: &[(&[u8], Result<(), ErrorKind>)] = &[
        // An empty file is damage, not data of another program: a power loss may empty a file of this project.
        (b"", Err(ErrorKind::Damaged)),
        (b"\0\0\0", Err(ErrorKind::Damaged)),
        (b"\n\n\n", Err(ErrorKind::Foreign)),
        (b"[]", Err(ErrorKind::Foreign)),
        (b"null", Err(ErrorKind::Foreign)),
        (b"{\"a\":1", Err(ErrorKind::Foreign)),
        (b"\xef\xbb\xbf{}", Err(ErrorKind::Foreign)),
        (b"{}\0", Err(ErrorKind::Foreign)),
        (b"{\"a\":\"\xff\"}", Err(ErrorKind::Foreign)),
        (b"{\"a\":\"\0\"}", Err(ErrorKind::Foreign)),
        (b"{\"format\":2}", Err(ErrorKind::NewerFormat)),
        (b"{\"format\":1}", Err(ErrorKind::Damaged)),
        (b"{\"format\":\"x\",\"format\":\"y\"}", Err(ErrorKind::Damaged)),
        (b"{\r\n\"a\":1\r\n}\r\n", Ok(())),
        (b"{\"a\":1,\"a\":2}", Ok(())),
        (b"{\"a\":1e999}", Ok(())),
        (br#"{"a":"\ud800"}"#, Ok(())),
    ];
    let get = |bytes: &[u8]| {
        let (store, document) = Store::checkpoint(bytes);
        let got = store.backend().get(&document, NEVER);
        got.map(|document| assert!(!document.unwrap().is_verified()))
            .map_err(|error| error.kind())
    };
    for (bytes, expected) in cases {
        assert_eq!(get(bytes), *expected, "{}", String::from_utf8_lossy(bytes));
    }
    assert_eq!(
        get(deep(100_000).as_bytes()),
        Ok(()),
        "nothing of it is recursed into"
    );
    assert_eq!(get("{\"a\":".repeat(100_000).as_bytes()), Err(ErrorKind::Foreign));
}
