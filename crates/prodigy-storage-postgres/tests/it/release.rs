//! Locks whose release has no answer.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prodigy_storage_backend::{Deadline, LockGuard, LockOptions, LockStore, PageOptions};
use prodigy_storage_layout::LockName;
use prodigy_storage_postgres::{PostgresBackend, PostgresOptions};

use crate::server::Server;

/// Passes connections on to a server, and keeps its answers back on request.
struct Proxy {
    port: u16,
    /// True if the answers of the open connections are discarded.
    is_silent: Arc<AtomicBool>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (port, there) = (listener.local_addr().unwrap().port(), server.port());
        let (is_silent, open) = (Arc::new(AtomicBool::new(false)), Arc::default());
        let proxy = Self {
            port,
            is_silent,
            open,
        };
        let (is_silent, open) = (Arc::clone(&proxy.is_silent), Arc::clone(&proxy.open));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", there)) else {
                    return;
                };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let is_silent = Arc::clone(&is_silent);
                open.lock().unwrap().push(client.try_clone().unwrap());
                std::thread::spawn(move || pass(from, to, || false));
                std::thread::spawn(move || pass(server, client, || is_silent.load(Ordering::SeqCst)));
            }
        });
        proxy
    }

    /// Closes all connections, and passes the answers of later ones on.
    fn cut(&self) {
        for client in self.open.lock().unwrap().drain(..) {
            let _ = client.shutdown(Shutdown::Both);
        }
        self.is_silent.store(false, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_discarded: impl Fn() -> bool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(read @ 1..) = from.read(&mut buffer) {
        if !is_discarded() && to.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

fn lock(backend: &PostgresBackend) -> Box<dyn LockGuard> {
    let name = LockName::new("resume").unwrap();
    let soon = Deadline::after(Duration::from_secs(60));
    backend.lock(&name, &LockOptions::default(), soon).unwrap()
}

fn is_held(backend: &PostgresBackend) -> bool {
    let listed = backend.locks(&PageOptions::default(), Deadline::never()).unwrap();
    listed.entries.iter().any(|lock| lock.held)
}

/// Releases a lock, and loses the answer. Meanwhile, another process may take the lock.
fn release_without_an_answer(is_taken_meanwhile: bool) {
    let Some(server) = Server::start() else { return };
    let other = PostgresBackend::open(PostgresOptions::new(server.url()), Deadline::never()).unwrap();
    let proxy = Proxy::to(&server);
    let port = |port: u16| format!(":{port}/");
    let url = server.url().replace(&port(server.port()), &port(proxy.port));
    let backend = PostgresBackend::open(PostgresOptions::new(url), Deadline::never()).unwrap();
    let held = lock(&backend);
    proxy.is_silent.store(true, Ordering::SeqCst);
    let next = std::thread::scope(|scope| {
        let released = scope.spawn(move || held.release());
        while is_held(&other) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let next = is_taken_meanwhile.then(|| lock(&other));
        proxy.cut();
        released.join().unwrap().unwrap();
        next
    });
    assert_eq!(is_held(&other), is_taken_meanwhile);
    if let Some(next) = next {
        next.release().unwrap();
    }
}

#[test]
fn a_release_whose_answer_was_lost_is_repeated_and_succeeds() {
    release_without_an_answer(false);
}

#[test]
fn a_repeated_release_takes_the_lock_from_no_other_holder() {
    release_without_an_answer(true);
}
