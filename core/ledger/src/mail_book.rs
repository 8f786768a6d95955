//! The halves of the ledger for mails: what clients ask for and show (`MailBook`), and what is sent (`MailOutbox`).

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;

use crate::error::LedgerError;
use crate::rows::{AccountEvent, Addressee, CodeUse, DueMail, MailBounds, NewCode, NewMail, ShownCode};
use infera_types::ids::{AccountId, MailId};
use infera_types::time::Timestamp;

/// Accounts whose addresses are proven by mail.
#[async_trait]
pub trait MailBook: Send + Sync + fmt::Debug {
    /// Puts a mail into the outbox, to be sent at once, unless one of the bounds is reached by mails of its kind: what is asked for
    /// one kind leaves the other's bounds alone. Returns whether it is there. Callers at the same moment may exceed a bound by their
    /// number.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn ask_for_mail(
        &self,
        mail: &NewMail,
        bounds: &MailBounds,
        now: Timestamp,
    ) -> Result<bool, LedgerError>;

    /// Uses a code, and returns the account that it was for. A code serves once, for what it was mailed for, until it expires,
    /// and not once five wrong secrets were shown with its id: none is returned otherwise, and nothing is changed.
    ///
    /// A proof makes the address name this account, which counts by itself from then on, unless another account has proven
    /// the address, or this one has proven another: none is returned then, and the code is used up. A recovery stores the
    /// key. Both note an event, and end the account's other codes of that kind. Secrets are compared in constant time.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown` the code may be used up.
    async fn redeem(
        &self,
        code: &ShownCode,
        what_for: &CodeUse,
        now: Timestamp,
    ) -> Result<Option<AccountId>, LedgerError>;

    /// Returns at most `limit` events of an account, newest first.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn account_events(&self, account: &AccountId, limit: u32)
    -> Result<Vec<AccountEvent>, LedgerError>;
}

/// The outbox of mails. It survives the process that was asked for a mail.
#[async_trait]
pub trait MailOutbox: Send + Sync + fmt::Debug {
    /// Takes at most `limit` mails whose turn it is, oldest turn first. No other caller gets them until `lease` is over; then
    /// they are due again, unless [`MailOutbox::finish_mail`] said otherwise.
    ///
    /// # Errors
    /// [`LedgerError`]; after `Unknown` some may be taken until their leases end.
    async fn take_mails(
        &self,
        limit: u32,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<DueMail>, LedgerError>;

    /// Says what a mail may tell its address now, and stores the code if it may carry one. Each try has a code of its own, all
    /// of which are valid until they expire or one is used. A mail that has no one to go to counts no longer towards the mails of all
    /// clients; towards those of its address and of its network it does, so that no client learns from its own what there is.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn issue_code(&self, mail: &DueMail, code: &NewCode) -> Result<Addressee, LedgerError>;

    /// Records when a mail's turn comes again; none: never, because it was sent or given up.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn finish_mail(&self, mail: MailId, again: Option<Timestamp>) -> Result<(), LedgerError>;

    /// Forgets mails that are finished and count for no bound any more, and codes that have expired.
    ///
    /// # Errors
    /// [`LedgerError`].
    async fn forget_mails(&self, now: Timestamp) -> Result<(), LedgerError>;
}
