//! The PROXY protocol: by its header a proxy that passes bytes through says whose connection it is. Only those that the
//! settings trust are believed, and they always send it where it is expected: guessing would let others forge it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// A proxy sends its header with or right after the connection.
const WITHIN: Duration = Duration::from_secs(5);

/// The longest line of version 1, CRLF included.
const LINE_MAX_BYTES: usize = 107;

/// What both versions begin with differs in its first byte; version 2 says its length within these.
const START_BYTES: usize = 16;

/// What a proxy adds to the addresses is skipped, up to this.
const ADDED_MAX_BYTES: usize = 4 * 1024;

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The connection.
    #[error("the connection ended: {0}")]
    Gone(#[from] io::Error),
    /// Too late.
    #[error("no PROXY header within {} s", WITHIN.as_secs())]
    Late,
    /// Something else came.
    #[error("what came is no PROXY header")]
    Strange,
}

/// Reads the header and nothing after it. None: the proxy speaks for itself, as in a health check.
///
/// # Errors
/// [`ProxyError`]; the proxy's fault, or that of the setting which expects a header.
pub(crate) async fn read(stream: &mut TcpStream) -> Result<Option<IpAddr>, ProxyError> {
    let header = tokio::time::timeout(WITHIN, read_header(stream)).await.map_err(|_| ProxyError::Late)??;
    let parsed = ProxyHeader::parse(&header, ParseConfig { include_tlvs: false, ..ParseConfig::default() });
    match parsed {
        Ok((parsed, length)) if length == header.len() => {
            Ok(parsed.proxied_address().map(|addresses| addresses.source.ip()))
        }
        _ => Err(ProxyError::Strange),
    }
}

/// The header's bytes.
async fn read_header(stream: &mut TcpStream) -> Result<Vec<u8>, ProxyError> {
    let mut header = vec![stream.read_u8().await?];
    match header[0] {
        b'P' => read_line(stream, &mut header).await?,
        b'\r' => {
            header.resize(START_BYTES, 0);
            stream.read_exact(&mut header[1..]).await?;
            let added = usize::from(u16::from_be_bytes([header[14], header[15]]));
            if added > ADDED_MAX_BYTES {
                return Err(ProxyError::Strange);
            }
            header.resize(START_BYTES + added, 0);
            stream.read_exact(&mut header[START_BYTES..]).await?;
        }
        _ => return Err(ProxyError::Strange),
    }
    Ok(header)
}

/// Reads up to the line's end: what is looked at first and isn't the end can be taken whole.
async fn read_line(stream: &mut TcpStream, header: &mut Vec<u8>) -> Result<(), ProxyError> {
    let mut ahead = [0; LINE_MAX_BYTES];
    while header.len() < LINE_MAX_BYTES {
        let room = LINE_MAX_BYTES - header.len();
        let seen = stream.peek(&mut ahead[..room]).await?;
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let end = ahead[..seen].iter().position(|byte| *byte == b'\n');
        let (from, length) = (header.len(), end.map_or(seen, |end| end + 1));
        header.resize(from + length, 0);
        stream.read_exact(&mut header[from..]).await?;
        if end.is_some() {
            return Ok(());
        }
    }
    Err(ProxyError::Strange)
}
