//! Sends what the ledger's outbox has. Every gateway sends; a mail is leased to one at a time, so that the mails of a gateway that
//! was killed are sent by another one, or by the next that starts, once their lease is over. A mail that was handed over just
//! before the kill is sent once more, with the same `Message-ID`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use infera_ledger::{Addressee, DueMail, LedgerError, MailKind, MailOutbox};
use infera_mail::{Letter, MailConfig, MailError, Mailer};
use infera_telemetry::metrics::GATEWAY_MAILS;
use infera_types::ids::Digest;
use infera_types::retry::Backoff;
use infera_types::shutdown::Shutdown;
use infera_types::time::Timestamp;
use metrics::counter;
use tokio::sync::Notify;

use super::code::MailCode;
use super::letters;

/// How many letters are handed over at once: a few connections are all that mail servers like.
const AT_ONCE: u32 = 4;

/// How often the outbox is looked at when nothing is asked for here. Retries, and mails of gateways that died, wait no longer
/// than this beyond their turn; a look is one reading of an index that is empty most of the time.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// The longest pause between two tries.
const RETRY_MAX: Duration = Duration::from_secs(30 * 60);

/// How often one mail is tried. With the default pauses that takes six hours, which outlasts most outages; a person has asked for
/// another one by then.
const TRIES_MAX: u32 = 18;

/// How often finished mails and expired codes are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(10 * 60);

/// The half of mail that sends.
#[derive(Debug)]
pub(crate) struct Sender {
    outbox: Arc<dyn MailOutbox>,
    mailer: Arc<dyn Mailer>,
    public_url: String,
    proof_life: Duration,
    recovery_life: Duration,
    lease: Duration,
    retry: Backoff,
    wake: Arc<Notify>,
}

/// What became of one try.
enum Tried {
    /// The server answered for the mail, which is finished: it is sent, or refused for good.
    Answered,
    /// The mail is finished without a word to the server: it has no one to go to, or can't be written.
    Finished,
    /// The mail server is away, for this reason.
    Away(String),
    /// The ledger is away. The mail's turn comes again after its lease.
    Unrecorded(LedgerError),
}

/// What was wrong at the last look, so that a lasting fault is logged when it begins and when it ends.
#[derive(Debug, Default)]
struct Faults {
    is_mail_away: bool,
    is_ledger_away: bool,
}

impl Sender {
    /// Makes the sender. It doesn't run yet.
    pub(super) fn new(
        outbox: Arc<dyn MailOutbox>,
        mailer: Arc<dyn Mailer>,
        config: &MailConfig,
        wake: Arc<Notify>,
    ) -> Self {
        let retry = Duration::from_millis(config.retry_ms);
        Self {
            outbox,
            mailer,
            public_url: config.public_url.clone(),
            proof_life: Duration::from_millis(config.proof_life_ms),
            recovery_life: Duration::from_millis(config.recovery_life_ms),
            // Handing over ends within the timeout; the rest is for the ledger.
            lease: config.timeout() * 2,
            retry: Backoff::doubling(retry, RETRY_MAX),
            wake,
        }
    }

    /// Sends until `end`. What is being handed over then is ended in the middle, if the process doesn't wait.
    pub(crate) async fn run(self, end: Shutdown) {
        let mut faults = Faults::default();
        let mut forgotten = Instant::now();
        while !end.is_cancelled() {
            if self.look(&mut faults).await {
                continue;
            }
            if forgotten.elapsed() >= FORGET_EVERY {
                forgotten = Instant::now();
                if let Err(error) = self.outbox.forget_mails(Timestamp::now()).await {
                    tracing::debug!(%error, "finished mails stay for now");
                }
            }
            tokio::select! {
                () = end.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Sends some mails, and returns whether there may be more that can be sent.
    async fn look(&self, faults: &mut Faults) -> bool {
        let mails = match self.outbox.take_mails(AT_ONCE, self.lease, Timestamp::now()).await {
            Ok(mails) => mails,
            Err(error) => {
                faults.ledger(Some(&error));
                return false;
            }
        };
        let tried = join_all(mails.iter().map(|mail| self.try_once(mail))).await;
        let (mut is_well, mut is_answered) = (true, false);
        for outcome in &tried {
            match outcome {
                Tried::Answered => is_answered = true,
                Tried::Finished => {}
                Tried::Away(reason) => {
                    is_well = false;
                    faults.mail(reason);
                }
                Tried::Unrecorded(error) => {
                    is_well = false;
                    faults.ledger(Some(error));
                }
            }
        }
        if is_well {
            faults.ledger(None);
            if is_answered {
                faults.mail_is_back();
            }
        }
        is_well && tried.len() >= AT_ONCE as usize
    }

    async fn try_once(&self, mail: &DueMail) -> Tried {
        let letter = match self.letter(mail).await {
            Ok(Some(letter)) => letter,
            // Nothing tells that the address has nothing to prove or to recover, the log included.
            Ok(None) => return self.finish(mail, None, Tried::Finished).await,
            Err(tried) => return tried,
        };
        let address = masked(&mail.address);
        let (id, kind, tries) = (mail.id, mail.kind.word(), mail.tries);
        match self.mailer.send(&letter).await {
            Ok(()) => {
                counted("sent");
                tracing::info!(%id, kind, address, tries, "a mail is sent");
                self.finish(mail, None, Tried::Answered).await
            }
            Err(error @ (MailError::Refused(_) | MailError::Unwritable(_))) => {
                counted("given_up");
                tracing::warn!(%id, kind, address, %error, "a mail is given up");
                // What can't be written never came to the server.
                let is_answer = matches!(error, MailError::Refused(_));
                self.finish(mail, None, if is_answer { Tried::Answered } else { Tried::Finished }).await
            }
            Err(MailError::Away(reason)) if mail.tries >= TRIES_MAX => {
                counted("given_up");
                tracing::error!(%id, kind, address, tries, reason, "a mail is given up");
                self.finish(mail, None, Tried::Away(reason)).await
            }
            Err(MailError::Away(reason)) => {
                counted("later");
                tracing::debug!(%id, kind, address, tries, reason, "a mail is tried again later");
                let again = Timestamp::now().after(self.retry.spread(mail.tries));
                self.finish(mail, Some(again), Tried::Away(reason)).await
            }
        }
    }

    /// Returns what goes out to a mail's address now; none if nothing does.
    async fn letter(&self, mail: &DueMail) -> Result<Option<Letter>, Tried> {
        let code = MailCode::generate().map_err(|error| Tried::Away(error.to_string()))?;
        let life = match mail.kind {
            MailKind::Proof => self.proof_life,
            MailKind::Recovery => self.recovery_life,
        };
        let row = code.row(Timestamp::now().after(life));
        Ok(match self.outbox.issue_code(mail, &row).await.map_err(Tried::Unrecorded)? {
            Addressee::MayProve => Some(letters::with_code(mail, &code, &self.public_url, life)),
            Addressee::Taken => Some(letters::taken(mail, &self.public_url)),
            Addressee::NoOne => None,
        })
    }

    /// Records when a mail's turn comes again, and returns what became of the try.
    async fn finish(&self, mail: &DueMail, again: Option<Timestamp>, tried: Tried) -> Tried {
        match self.outbox.finish_mail(mail.id, again).await {
            Ok(()) => tried,
            Err(error) => Tried::Unrecorded(error),
        }
    }
}

impl Faults {
    fn ledger(&mut self, error: Option<&LedgerError>) {
        match error {
            Some(error) if !self.is_ledger_away => {
                tracing::error!(%error, "mails wait for the ledger");
            }
            _ => {}
        }
        self.is_ledger_away = error.is_some();
    }

    fn mail(&mut self, reason: &str) {
        if !self.is_mail_away {
            tracing::warn!(reason, "mails wait for the mail server; each is tried again");
        }
        self.is_mail_away = true;
    }

    fn mail_is_back(&mut self) {
        if self.is_mail_away {
            tracing::info!("the mail server takes mails again");
        }
        self.is_mail_away = false;
    }
}

/// Counts a try. Mails that go to no one aren't counted, as the log doesn't tell of them.
fn counted(outcome: &'static str) {
    counter!(GATEWAY_MAILS, "outcome" => outcome).increment(1);
}

/// Returns what the log has in place of an address: the beginning of its SHA-256, by which an operator who knows the address
/// finds it (`printf %s ada@example.com | sha256sum`).
fn masked(address: &str) -> String {
    let mut hash = Digest::of(address.as_bytes()).to_string();
    hash.truncate(12);
    hash
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use infera_ledger::{MailBook as _, MailBounds, NewMail};
    use infera_ledger_sqlite::SqliteLedger;
    use infera_types::ids::MailId;

    use super::*;

    /// A mail server that takes every letter.
    #[derive(Debug)]
    struct Taking;

    #[async_trait]
    impl Mailer for Taking {
        async fn send(&self, _letter: &Letter) -> Result<(), MailError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_mail_that_goes_to_no_one_says_nothing_of_the_server() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = SqliteLedger::open(&folder.path().join("ledger.sqlite")).unwrap();
        let (wake, now) = (Arc::default(), Timestamp::now());
        let sender = Sender::new(Arc::clone(&ledger) as _, Arc::new(Taking), &MailConfig::default(), wake);
        let account =
            infera_ledger::AccountBook::sign_up(&*ledger, "ada@example.com", None, now).await.unwrap();
        let bounds = MailBounds { per_hour_max: 9, per_address_hour_max: 9, per_network_hour_max: 9 };
        let mut faults = Faults { is_mail_away: true, is_ledger_away: false };
        for (kind, account, is_away_after) in
            [(MailKind::Recovery, None, true), (MailKind::Proof, Some(account.account), false)]
        {
            let (id, network) = (MailId::new(), "192.0.2.0/24".to_owned());
            let mail = NewMail { id, kind, address: "ada@example.com".to_owned(), account, network };
            assert!(ledger.ask_for_mail(&mail, &bounds, now).await.unwrap());
            sender.look(&mut faults).await;
            assert_eq!(faults.is_mail_away, is_away_after, "{kind:?}");
        }
    }
}
