//! Reads the header of the PROXY protocol, by which a proxy that passes bytes through tells its client's address.
//! Only trusted proxies are read, and where the header is expected it must come: if it were optional, clients could
//! forge it.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// How long the header may take. Proxies send it right after they connect.
const WITHIN: Duration = Duration::from_secs(5);

/// The longest header of version 1, in bytes, with its CRLF.
const LINE_MAX_BYTES: usize = 107;

/// The number of bytes that begin a header of version 2. The last two of them are the length of the rest.
const START_BYTES: usize = 16;

/// The largest rest of a header of version 2, in bytes: addresses, and additions of the proxy, which are skipped.
const ADDED_MAX_BYTES: usize = 4 * 1024;

/// The reason why there is no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProxyError {
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Gone(#[from] io::Error),
    /// The header came too late.
    #[error("no PROXY header within {} s", WITHIN.as_secs())]
    Late,
    /// The bytes are no PROXY header.
    #[error("the connection doesn't begin with a PROXY header")]
    Strange,
}

/// Reads the header and nothing after it, and returns the client's address. Returns none if the proxy connects for
/// itself, such as for a health check.
///
/// # Errors
/// [`ProxyError`]. The proxy is at fault, or the setting that expects a header.
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

/// Reads the header's bytes.
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

/// Reads up to the line's end and nothing after it, by looking at bytes before taking them.
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
