//! What no letter gets past: settings and addresses that can't be used, and a server that would have it in plain text. A
//! letter that arrives is tried with a whole network and another project's server (infra/mail.sh).
#![expect(clippy::expect_used, reason = "a test fails by panicking, in its helpers too")]

use std::time::Duration;

use infera_mail::{Letter, MailConfig, MailError, Mailer as _, Security};
use infera_mail_smtp::{SmtpError, SmtpMailer};
use infera_types::secret::Secret;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

fn config(port: u16) -> MailConfig {
    MailConfig {
        host: "127.0.0.1".to_owned(),
        port: Some(port),
        from: "Infera <no-reply@infera.example>".to_owned(),
        user: "infera".to_owned(),
        password: Secret::new("hush"),
        public_url: "https://infera.example".to_owned(),
        timeout_ms: 2_000,
        ..MailConfig::default()
    }
}

fn letter(to: &str) -> Letter {
    Letter {
        id: "mail_1".to_owned(),
        to: to.to_owned(),
        subject: "Hello".to_owned(),
        text: "A line.\n".to_owned(),
    }
}

/// A server that knows EHLO and nothing of TLS. It ends with the connection and returns all that it was told.
async fn clear_server(answer_to_mail: &'static str) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let heard = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        let mut stream = BufReader::new(stream);
        stream.write_all(b"220 here\r\n").await.expect("written");
        let mut heard = String::new();
        loop {
            let before = heard.len();
            let read = tokio::time::timeout(Duration::from_secs(5), stream.read_line(&mut heard)).await;
            if !matches!(read, Ok(Ok(1..))) {
                return heard;
            }
            let answer = match heard[before..].split_whitespace().next().unwrap_or_default() {
                "EHLO" => "250-here\r\n250 AUTH PLAIN LOGIN\r\n",
                "MAIL" => answer_to_mail,
                "QUIT" => "221 bye\r\n",
                _ => "235 fine\r\n",
            };
            // A client that leaves without waiting is none of the test's business.
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (port, heard)
}

#[tokio::test]
async fn a_server_without_tls_is_told_nothing_but_a_greeting() {
    let (port, heard) = clear_server("250 fine\r\n").await;
    let mailer = SmtpMailer::open(&config(port)).expect("sound settings").expect("a server is named");
    let refused = mailer.send(&letter("ada@example.com")).await.expect_err("no TLS");
    assert!(matches!(&refused, MailError::Away(text) if text.contains("STARTTLS")), "{refused:?}");
    drop(mailer);
    let heard = heard.await.expect("no panic");
    assert!(heard.starts_with("EHLO") && !heard.contains("AUTH"), "{heard}");
    assert!(!heard.contains("example.com") && !heard.contains("MAIL"), "{heard}");
}

#[tokio::test]
async fn an_answer_is_passed_on_by_its_code_alone() {
    for (answer, is_for_good) in [
        ("550 5.1.1 <ada@example.com>: unknown\r\n", true),
        ("450 4.2.0 <ada@example.com>: later\r\n", false),
    ] {
        let (port, _) = clear_server(answer).await;
        let clear = MailConfig { security: Security::None, ..config(port) };
        let mailer = SmtpMailer::open(&clear).expect("sound settings").expect("a server is named");
        let refused = mailer.send(&letter("ada@example.com")).await.expect_err("a refusal");
        assert_eq!(matches!(refused, MailError::Refused(_)), is_for_good, "{refused:?}");
        assert!(
            !refused.to_string().contains("ada") && refused.to_string().contains(&answer[..3]),
            "{refused}"
        );
    }
}

#[tokio::test]
async fn a_letter_that_would_begin_another_header_is_not_written() {
    // No server is needed: nothing is connected to.
    let mailer = SmtpMailer::open(&config(1)).expect("sound settings").expect("a server is named");
    for to in [
        "",
        "ada",
        "ada@example.com\r\nBcc: eve@example.com",
        "ada@example.com>\r\nRCPT TO:<eve@example.com",
        "ada@example.com, eve@example.com",
        "ada@example.com\0",
    ] {
        let refused = mailer.send(&letter(to)).await;
        assert!(matches!(refused, Err(MailError::Unwritable(_))), "{to:?}: {refused:?}");
    }
    let twice = Letter { subject: "Hello\r\nBcc: eve@example.com".to_owned(), ..letter("ada@example.com") };
    assert!(matches!(mailer.send(&twice).await, Err(MailError::Unwritable(_))));
    assert!(matches!(mailer.send(&letter("ada@example.com")).await, Err(MailError::Away(_))), "no server");
}

#[test]
fn settings_that_cannot_be_used_are_told() {
    assert!(SmtpMailer::open(&MailConfig::default()).expect("off").is_none());
    let told = |config: &MailConfig| SmtpMailer::open(config).expect_err("refused").to_string();
    let wrong = MailConfig { from: "Infera no-reply@@infera".to_owned(), ..config(1) };
    assert!(told(&wrong).starts_with("mail.from "), "{}", told(&wrong));
    let wrong = MailConfig { ca_file: Some("/nowhere/ca.crt".into()), ..config(1) };
    assert!(told(&wrong).starts_with("mail: ca_file /nowhere/ca.crt: "), "{}", told(&wrong));
    let wrong = MailConfig { timeout_ms: 0, ..config(1) };
    assert!(matches!(SmtpMailer::open(&wrong), Err(SmtpError::Settings(_))));
}
