//! What requests ask of mail: to send one, and to use a code.

use std::net::IpAddr;
use std::sync::Arc;

use infera_ledger::{AccountEvent, CodeUse, LedgerError, MailBook, MailBounds, MailKind, NewMail};
use infera_mail::MailConfig;
use infera_types::ids::{AccountId, MailId};
use infera_types::time::Timestamp;
use tokio::sync::Notify;

use super::code::MailCode;
use crate::access::RentedNetwork;

/// The half of mail that requests use.
#[derive(Debug)]
pub(crate) struct Post {
    book: Arc<dyn MailBook>,
    bounds: MailBounds,
    wake: Arc<Notify>,
}

impl Post {
    /// Makes the half over the ledger's book. `wake` is told of each mail that waits.
    pub(super) fn new(book: Arc<dyn MailBook>, config: &MailConfig, wake: Arc<Notify>) -> Self {
        let bounds = MailBounds {
            per_hour_max: config.per_hour_max,
            per_address_hour_max: config.per_address_hour_max,
            per_network_hour_max: config.per_network_hour_max,
        };
        Self { book, bounds, wake }
    }

    /// Asks for a mail that proves the address of `account`. Beyond the bounds none is sent, and nothing tells it.
    ///
    /// # Errors
    /// The ledger's.
    pub(crate) async fn ask_for_proof(
        &self,
        account: AccountId,
        address: String,
        client: IpAddr,
    ) -> Result<(), LedgerError> {
        self.ask(MailKind::Proof, Some(account), address, client).await
    }

    /// Asks for a mail with a code for a lost key. Beyond the bounds, and to an address that no account has proven, none is
    /// sent, and nothing tells it.
    ///
    /// # Errors
    /// The ledger's.
    pub(crate) async fn ask_for_recovery(&self, address: String, client: IpAddr) -> Result<(), LedgerError> {
        self.ask(MailKind::Recovery, None, address, client).await
    }

    async fn ask(
        &self,
        kind: MailKind,
        account: Option<AccountId>,
        address: String,
        client: IpAddr,
    ) -> Result<(), LedgerError> {
        let network = RentedNetwork::from(client).to_string();
        let mail = NewMail { id: MailId::new(), kind, address, account, network };
        if self.book.ask_for_mail(&mail, &self.bounds, Timestamp::now()).await? {
            self.wake.notify_one();
        } else {
            tracing::warn!(
                kind = kind.word(),
                network = %mail.network,
                "a mail is not sent: as many as may be were asked for within the hour (mail.per_hour_max, \
                 mail.per_address_hour_max, mail.per_network_hour_max)"
            );
        }
        Ok(())
    }

    /// Returns at most `limit` things that happened to an account by mail, newest first.
    ///
    /// # Errors
    /// The ledger's.
    pub(crate) async fn events(
        &self,
        account: &AccountId,
        limit: u32,
    ) -> Result<Vec<AccountEvent>, LedgerError> {
        self.book.account_events(account, limit).await
    }

    /// Uses a code and returns the account that it was for; none if it isn't valid.
    ///
    /// # Errors
    /// The ledger's.
    pub(crate) async fn redeem(
        &self,
        code: &MailCode,
        what_for: &CodeUse,
    ) -> Result<Option<AccountId>, LedgerError> {
        self.book.redeem(&code.shown(), what_for, Timestamp::now()).await
    }
}
