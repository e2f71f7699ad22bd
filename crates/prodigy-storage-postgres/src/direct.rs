//! Finds out whether a single server process serves a connection while the connection is open.
//!
//! A pooler in transaction mode may give each transaction to another server process, so that the state of a
//! session is lost between transactions. Each connection has a cancellation key with a process number. Such a
//! pooler invents this number; a server, and a proxy that only forwards bytes, send the number that
//! `pg_backend_pid()` returns.

use std::future::{Ready, ready};
use std::io::{Error, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Client;
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

/// The length in bytes of a cancel request: its length, a code, the process number, and a secret.
const REQUEST: usize = 16;

/// True if the cancellation key of the connection has the number of the process that answers a query.
pub(crate) async fn is_direct(client: &Client) -> std::result::Result<bool, tokio_postgres::Error> {
    let row = client.query_typed("select pg_backend_pid()", &[]).await?;
    let answering: Option<i32> = row.first().and_then(|row| row.try_get(0).ok());
    Ok(answering.is_some() && answering == named(client).await)
}

/// The process number in the cancellation key of a connection. The client library shows it only in the bytes of a
/// cancel request.
async fn named(client: &Client) -> Option<i32> {
    let mut wire = Wire::default();
    client
        .cancel_token()
        .cancel_query_raw(&mut wire, Plain)
        .await
        .ok()?;
    number_in(&wire.0)
}

fn number_in(sent: &[u8]) -> Option<i32> {
    let request = sent.get(sent.len().checked_sub(REQUEST)?..)?;
    request.get(8..12)?.try_into().ok().map(i32::from_be_bytes)
}

/// A stream that is not connected: it records the bytes that are written to it, and agrees to use TLS.
#[derive(Default)]
struct Wire(Vec<u8>);

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        buffer.put_slice(b"S");
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<Result<usize>> {
        self.0.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl TlsStream for &mut Wire {
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

/// A TLS implementation that does not encrypt, for a stream whose bytes never leave this process.
struct Plain;

impl<'a> TlsConnect<&'a mut Wire> for Plain {
    type Stream = &'a mut Wire;
    type Error = Error;
    type Future = Ready<Result<&'a mut Wire>>;

    fn connect(self, stream: &'a mut Wire) -> Self::Future {
        ready(Ok(stream))
    }
}

#[cfg(test)]
mod tests {
    use super::number_in;

    #[test]
    fn the_number_is_read_behind_a_request_for_tls() {
        let tls = [0, 0, 0, 8, 4, 210, 22, 47];
        let cancel = [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 1, 2, 9, 9, 9, 9];
        assert_eq!(number_in(&cancel), Some(258));
        assert_eq!(number_in(&[&tls[..], &cancel[..]].concat()), Some(258));
        assert_eq!(number_in(&tls), None);
    }
}
