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
    client(&header)
}

/// Reads the header's bytes and nothing after them, by looking at bytes before taking them.
async fn read_header(stream: &mut TcpStream) -> Result<Vec<u8>, ProxyError> {
    let (mut header, mut ahead) = (Vec::new(), vec![0; START_BYTES + ADDED_MAX_BYTES]);
    loop {
        let seen = stream.peek(&mut ahead).await?;
        if seen == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let taken = header.len();
        header.extend_from_slice(&ahead[..seen]);
        let outline = outline(&header);
        if let Outline::Whole(length) = outline {
            header.truncate(length);
        }
        stream.read_exact(&mut ahead[..header.len() - taken]).await?;
        match outline {
            Outline::Whole(_) => return Ok(header),
            Outline::Partial => {}
            Outline::Strange => return Err(ProxyError::Strange),
        }
    }
}

/// What the beginning of a connection looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outline {
    /// It holds a header of this many bytes, whatever that says.
    Whole(usize),
    /// A header may have begun.
    Partial,
    /// No header begins like this, or it is too long.
    Strange,
}

/// Returns where the header at the beginning of `bytes` ends.
pub(crate) fn outline(bytes: &[u8]) -> Outline {
    match bytes {
        [] => Outline::Partial,
        [b'P', ..] => {
            let line = &bytes[..bytes.len().min(LINE_MAX_BYTES)];
            match line.iter().position(|byte| *byte == b'\n') {
                Some(end) => Outline::Whole(end + 1),
                None if line.len() < LINE_MAX_BYTES => Outline::Partial,
                None => Outline::Strange,
            }
        }
        [b'\r', ..] if bytes.len() < START_BYTES => Outline::Partial,
        [b'\r', ..] => match START_BYTES + usize::from(u16::from_be_bytes([bytes[14], bytes[15]])) {
            length if length > START_BYTES + ADDED_MAX_BYTES => Outline::Strange,
            length if length > bytes.len() => Outline::Partial,
            length => Outline::Whole(length),
        },
        _ => Outline::Strange,
    }
}

/// Returns the client's address that a whole header tells; none if the proxy speaks for itself.
///
/// # Errors
/// [`ProxyError::Strange`].
pub(crate) fn client(header: &[u8]) -> Result<Option<IpAddr>, ProxyError> {
    let parsed = ProxyHeader::parse(header, ParseConfig { include_tlvs: false, ..ParseConfig::default() });
    match parsed {
        Ok((parsed, length)) if length == header.len() => {
            Ok(parsed.proxied_address().map(|addresses| addresses.source.ip()))
        }
        _ => Err(ProxyError::Strange),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A header of version 2 with `added` bytes behind its start; the kind of address is the 14th byte.
    fn second(command: u8, kind: u8, added: &[u8]) -> Vec<u8> {
        let length = u16::try_from(added.len()).unwrap().to_be_bytes();
        [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[0x20 | command, kind], &length, added].concat()
    }

    #[test]
    fn a_header_ends_where_it_says_and_tells_its_client() {
        let v4 = [203, 0, 113, 7, 10, 0, 0, 1, 0x1f, 0x90, 0, 80];
        for (header, expected) in [
            (b"PROXY TCP4 203.0.113.7 10.0.0.1 8080 80\r\n".to_vec(), Some("203.0.113.7")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 8080 80\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (second(1, 0x11, &v4), Some("203.0.113.7")),
            (second(1, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat()), Some("203.0.113.7")),
            (second(0, 0, &[]), None),
        ] {
            let with_more = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(outline(&with_more), Outline::Whole(header.len()));
            for end in 0..header.len() {
                assert_eq!(outline(&header[..end]), Outline::Partial, "{end}");
            }
            let client = client(&header).unwrap();
            assert_eq!(client.map(|address| address.to_string()).as_deref(), expected);
        }
    }

    #[test]
    fn what_is_no_header_or_is_too_long_is_strange() {
        let endless = [b"PROXY ".as_slice(), &[b'x'; LINE_MAX_BYTES]].concat();
        for wrong in [&b"GET / HTTP/1.1\r\n"[..], &endless, &second(1, 0x11, &vec![0; ADDED_MAX_BYTES + 1])] {
            assert_eq!(outline(wrong), Outline::Strange);
        }
        for wrong in
            [&b"PROXY TCP4 x y 1 2\r\n"[..], b"PRI * HTTP/2.0\r\n", b"P\n", &second(1, 0x11, &[1, 2, 3])]
        {
            assert!(matches!(outline(wrong), Outline::Whole(_)));
            assert!(matches!(client(wrong), Err(ProxyError::Strange)), "{wrong:?}");
        }
    }
}
