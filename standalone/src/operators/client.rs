//! The end that asks, in a command beside the `infera up` that holds the data folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use infera_program::Failure;
use infera_types::ids::JobId;
use tokio::net::UnixStream;

use super::wire::{LATER, LEDGER, MISTYPED, ModelOrder, path, path_of_model};
use crate::data_folder::{noted_key_in, operators_in};
use crate::ledger_orders::LedgerOrder;

/// How long an answer may take.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// No record is larger: a request and its replicas are each bounded by the size of a message.
const RECORD_MAX_BYTES: usize = 64 * 1024 * 1024;

/// Why an `infera up` that runs gives no answer. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It doesn't answer commands.
    #[error(
        "{path} is in use by another infera, which answers no commands now ({problem}): it is starting, ending, another \
         command, or of an earlier version; try again, or stop it first"
    )]
    Away {
        /// The data folder.
        path: PathBuf,
        /// What happened instead.
        problem: String,
    },
    /// It doesn't do what it is asked, and says why in its own words.
    #[error("{sentence}")]
    Told {
        /// What it says.
        sentence: String,
        /// Whether that may be otherwise later without an operator's doing.
        may_pass: bool,
    },
    /// It can't do what was typed.
    #[error("{0}")]
    Mistyped(String),
}

impl AskError {
    /// Returns whether trying again may help.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Away { .. } => true,
            Self::Told { may_pass, .. } => *may_pass,
            Self::Mistyped(_) => false,
        }
    }

    /// Maps it to the exit code of whose fault it is.
    #[must_use]
    pub fn into_failure(self) -> Failure {
        match self {
            Self::Mistyped(_) => Failure::settings(self),
            error if error.may_pass() => error.into(),
            error => Failure::refused(error),
        }
    }
}

/// Asks the `infera up` that has the data folder at `data` for the archived record of `job`.
///
/// # Errors
/// [`AskError`].
pub async fn ask(data: &Path, job: JobId) -> Result<String, AskError> {
    call(data, Method::GET, path(job), Bytes::new()).await
}

/// Gives an order about models to the `infera up` that has the data folder at `data`; returns what it did, as one sentence.
///
/// # Errors
/// [`AskError`].
pub async fn order(data: &Path, order: &ModelOrder) -> Result<String, AskError> {
    match order {
        ModelOrder::Add(addition) => {
            let body = serde_json::to_vec(addition).map_err(|error| AskError::Told {
                sentence: format!("the order can't be written: {error}"),
                may_pass: false,
            })?;
            call(data, Method::PUT, path_of_model(&addition.entry.name), Bytes::from(body)).await
        }
        ModelOrder::Remove(name) => call(data, Method::DELETE, path_of_model(name), Bytes::new()).await,
    }
}

/// Gives an order of the ledger to the `infera up` that has the data folder at `data`; returns what it did.
///
/// # Errors
/// [`AskError`].
pub async fn order_of_ledger(data: &Path, order: &LedgerOrder) -> Result<String, AskError> {
    let body = serde_json::to_vec(order).map_err(|error| AskError::Mistyped(error.to_string()))?;
    call(data, Method::POST, LEDGER.to_owned(), Bytes::from(body)).await
}

async fn call(data: &Path, method: Method, path: String, body: Bytes) -> Result<String, AskError> {
    let away = |problem: String| AskError::Away { path: data.to_owned(), problem };
    let key = noted_key_in(data).ok_or_else(|| away("it has noted no key for local use".to_owned()))?;
    let answered =
        tokio::time::timeout(ANSWERS_WITHIN, send(&operators_in(data), &key, (method, path, body))).await;
    let answered = answered.map_err(|_| away(format!("no answer in {} s", ANSWERS_WITHIN.as_secs())))?;
    let (status, text) = answered.map_err(|error| away(error.to_string()))?;
    match status {
        StatusCode::OK => Ok(text),
        MISTYPED => Err(AskError::Mistyped(text)),
        status => Err(AskError::Told { sentence: text, may_pass: LATER.contains(&status) }),
    }
}

type Cause = Box<dyn std::error::Error + Send + Sync>;

async fn send(
    socket: &Path,
    key: &str,
    (method, path, body): (Method, String, Bytes),
) -> Result<(StatusCode, String), Cause> {
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "localhost")
        .header(AUTHORIZATION, format!("Bearer {key}"))
        .body(Full::new(body))?;
    let answer = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), RECORD_MAX_BYTES).collect().await?.to_bytes();
        Ok((status, String::from_utf8(body.to_vec())?))
    };
    tokio::pin!(answer);
    tokio::select! {
        answered = &mut answer => answered,
        // It ends by itself when the other side has said all; what it said may still have to be read.
        ended = connection => match ended {
            Ok(()) => answer.await,
            Err(error) => Err(error.into()),
        },
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::UnixListener;

    use super::*;

    /// What the other end says reaches the person, and whether the command line is to blame: not for a request that the other end
    /// can't read.
    #[tokio::test]
    async fn what_is_refused_is_told_in_the_other_ends_words() {
        let folder = tempfile::tempdir().unwrap();
        let note = "INFERA_URL=http://127.0.0.1:1\nINFERA_API_KEY=inf_x\n";
        std::fs::write(folder.path().join("local.env"), note).unwrap();
        assert!(noted_key_in(folder.path()).is_some());
        let listener = UnixListener::bind(operators_in(folder.path())).unwrap();
        for (status, is_mistyped, may_pass) in
            [("422", true, false), ("400", false, false), ("409", false, false), ("503", false, true)]
        {
            let answering = async {
                let (mut stream, _) = listener.accept().await.unwrap();
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
                let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 10\r\n\r\nwords: {status}");
                stream.write_all(answer.as_bytes()).await.unwrap();
                stream.shutdown().await.unwrap();
            };
            let (asked, ()) = tokio::join!(ask(folder.path(), JobId::new()), answering);
            let error = asked.unwrap_err();
            assert_eq!(matches!(error, AskError::Mistyped(_)), is_mistyped, "{status}: {error}");
            assert_eq!(error.may_pass(), may_pass, "{status}");
            assert!(error.to_string().starts_with("words: "), "{error}");
        }
    }
}
