//! The seam to what makes a connection secure before requests are read from it. Plain text needs none; the program brings
//! TLS, so that `infera up`, a loopback affair, links none of it.

use std::fmt;
use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// Carries a connection's bytes, and tells what became of the connection.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns what the operating system has noted against the connection, such as a reset after the client's last byte.
    fn error(&self) -> Option<io::Error>;
}

impl Wire for TcpStream {
    fn error(&self) -> Option<io::Error> {
        self.take_error().unwrap_or_else(Some)
    }
}

impl<W: Wire + ?Sized> Wire for Box<W> {
    fn error(&self) -> Option<io::Error> {
        (**self).error()
    }
}

/// Makes connections secure.
#[async_trait]
pub trait Acceptor: Send + Sync + fmt::Debug {
    /// Returns the connection after its handshake; none if that failed or took too long, which is the client's trouble and
    /// not logged above debug. It ends by itself within a bounded time, and may be dropped at any await.
    async fn accept(&self, stream: TcpStream) -> Option<Box<dyn Wire>>;
}
