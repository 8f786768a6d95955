//! Letters by SMTP, through lettre, to the one mail server that the settings name. Each letter has a connection of its own:
//! there are few, and an idle connection would be closed by the server anyway.
//!
//! Nothing is logged here. An answer of the server may repeat the recipient's address, so only its code is passed on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use infera_mail::{Letter, MailConfig, MailError, MailMistakes, Mailer, Security};
use infera_tls::TrustError;
use infera_types::causes::causes;
use lettre::message::header::{ContentType, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message};
use lettre::transport::smtp;
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{Address, AsyncSmtpTransport, AsyncTransport as _, Tokio1Executor};

/// Answers with a code of 5xx that concern the login or the connection (RFC 4954, RFC 3207), and thus every letter: the
/// operator mends them, and the letters wait.
const OF_THE_LOGIN: [&str; 6] = ["504", "523", "530", "534", "535", "538"];

/// Why no mail can be sent. The operator has to mend it; a retry changes nothing.
#[derive(Debug, thiserror::Error)]
pub enum SmtpError {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] MailMistakes),
    /// The sender's address can't be read.
    #[error(
        "mail.from {0:?} can't be read as an address: write it like \"Infera <no-reply@infera.example>\""
    )]
    From(String),
    /// There are no trusted CAs.
    #[error("mail: {0}")]
    Trust(#[from] TrustError),
    /// The library refuses the certificates.
    #[error("mail: TLS can't be used: {0}")]
    Library(#[from] smtp::Error),
}

/// A mail server.
#[derive(Debug)]
pub struct SmtpMailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    server: String,
    timeout: Duration,
}

impl SmtpMailer {
    /// Makes the mailer for the server that the settings name, or returns none if they name none. The server is not
    /// contacted yet, so that a network starts while it is away.
    ///
    /// # Errors
    /// [`SmtpError`].
    pub fn open(config: &MailConfig) -> Result<Option<Arc<Self>>, SmtpError> {
        config.check()?;
        if !config.is_on() {
            return Ok(None);
        }
        let from: Mailbox = config.from.parse().map_err(|_| SmtpError::From(config.from.clone()))?;
        let tls = match config.security {
            Security::StartTls => Tls::Required(tls(config)?),
            Security::Tls => Tls::Wrapper(tls(config)?),
            Security::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(bare(&config.host))
            .port(config.port())
            .tls(tls)
            .timeout(Some(config.timeout()));
        if !config.user.is_empty() {
            let (user, password) = (config.user.clone(), config.password.expose().to_owned());
            builder = builder.credentials(Credentials::new(user, password));
        }
        Ok(Some(Arc::new(Self {
            transport: builder.build(),
            from,
            server: format!("{}:{}", config.host, config.port()),
            timeout: config.timeout(),
        })))
    }

    /// Writes a letter as it is sent.
    fn message(&self, letter: &Letter) -> Result<Message, MailError> {
        let unwritable = |what: &str| MailError::Unwritable(what.to_owned());
        let to: Address = letter.to.parse().map_err(|_| unwritable("its address is none"))?;
        if [&letter.subject, &letter.id].iter().any(|text| text.contains(|one: char| one.is_ascii_control()))
        {
            return Err(unwritable("a header would have several lines"));
        }
        Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to))
            .subject(letter.subject.clone())
            .message_id(Some(format!("<{}@{}>", letter.id, self.from.email.domain())))
            .date_now()
            // Holiday notices and the like don't answer it (RFC 3834).
            .raw_header(HeaderValue::new(
                HeaderName::new_from_ascii_str("Auto-Submitted"),
                "auto-generated".to_owned(),
            ))
            .header(ContentType::TEXT_PLAIN)
            .body(letter.text.clone())
            .map_err(|_| unwritable("the library refuses it"))
    }

    /// Returns what a failure means for the letter.
    fn judged(&self, error: &smtp::Error) -> MailError {
        let server = &self.server;
        match error.status().map(|code| code.to_string()) {
            Some(code) if OF_THE_LOGIN.contains(&code.as_str()) => MailError::Away(format!(
                "{server} refuses the login ({code}); check mail.user, mail.password and mail.security"
            )),
            Some(code) if error.is_permanent() => MailError::Refused(code),
            Some(code) => MailError::Away(format!("{server} puts the letter off ({code})")),
            // The library's words about an answer that it can't read may contain the answer.
            None if error.is_response() => {
                MailError::Away(format!("{server} answers something that is not SMTP"))
            }
            None => MailError::Away(format!("{server}: {}", causes(error))),
        }
    }
}

/// Returns an address of IPv6 without its brackets.
fn bare(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

/// Returns how the server is recognised: by its name and a CA of the system's or of the file's.
fn tls(config: &MailConfig) -> Result<TlsParameters, SmtpError> {
    let mut builder =
        TlsParameters::builder(bare(&config.host).to_owned()).certificate_store(CertificateStore::None);
    for certificate in infera_tls::authority_certificates(config.ca_file.as_deref())? {
        builder = builder.add_root_certificate(Certificate::from_der(certificate)?);
    }
    Ok(builder.build()?)
}

#[async_trait]
impl Mailer for SmtpMailer {
    async fn send(&self, letter: &Letter) -> Result<(), MailError> {
        let message = self.message(letter)?;
        match tokio::time::timeout(self.timeout, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.judged(&error)),
            Err(_) => {
                let Self { server, timeout, .. } = self;
                Err(MailError::Away(format!(
                    "{server} took longer than {} ms (mail.timeout_ms)",
                    timeout.as_millis()
                )))
            }
        }
    }
}
