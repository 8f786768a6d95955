//! The seam to whatever makes a connection secure before requests are read from it. Plain text needs none. The
//! gateway's program brings TLS; `infera up` listens on loopback only and links none.

use std::fmt;
use std::io;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

/// A connection's bytes, and the errors that the operating system noted for it.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {
    /// Returns the error that the operating system has noted for the connection, such as a reset after the client's
    /// last byte.
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
    /// Returns the connection after its handshake, or none if the handshake failed or took too long. That is the
    /// client's fault and is logged at debug level only. The call ends by itself within a bounded time, and may be
    /// dropped at any await.
    async fn accept(&self, stream: TcpStream) -> Option<Box<dyn Wire>>;
}
