//! hyper alone: it reads a body and answers the same bytes to every request. It shows what HTTP costs on this
//! machine, which is the limit that a gateway on hyper is measured against.

use std::convert::Infallible;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::Fault;

/// Serves `reply` on a free port, until the runtime ends.
///
/// # Errors
/// No port can be opened.
pub async fn serve(reply: String) -> Result<SocketAddr, Fault> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let reply = Bytes::from(reply);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve_connection(stream, reply.clone()));
        }
    });
    Ok(address)
}

async fn serve_connection(stream: TcpStream, reply: Bytes) {
    let service = service_fn(move |request: Request<Incoming>| {
        let reply = reply.clone();
        async move {
            // A body that breaks off ends its connection, and with it the need for an answer.
            let _ = request.into_body().collect().await;
            let response =
                Response::builder().header(CONTENT_TYPE, "application/json").body(Full::new(reply));
            Ok::<_, Infallible>(response.unwrap_or_default())
        }
    });
    // Clients close when their time is over, which is not an error.
    if stream.set_nodelay(true).is_ok() {
        let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }
}
