//! The ledger fails where mails are asked for. A real one is behind it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use infera_ledger::{
    AccountEvent, Addressee, CodeUse, DueMail, LedgerError, MailBook, MailBounds, MailOutbox, NewCode,
    NewMail, ShownCode,
};
use infera_ledger_sqlite::SqliteLedger;
use infera_mail::{Letter, MailConfig, MailError, Mailer};
use infera_types::ids::{AccountId, MailId};
use infera_types::time::Timestamp;
use serde_json::json;

use crate::support::rig::{Rig, job, unlimited};

/// A ledger that takes no mail, but all else.
#[derive(Debug)]
struct NoOutbox(Arc<SqliteLedger>);

#[async_trait]
impl MailBook for NoOutbox {
    async fn ask_for_mail(&self, _: &NewMail, _: &MailBounds, _: Timestamp) -> Result<bool, LedgerError> {
        Err(LedgerError::Unavailable("database or disk is full".to_owned()))
    }

    async fn redeem(
        &self,
        code: &ShownCode,
        what_for: &CodeUse,
        now: Timestamp,
    ) -> Result<Option<AccountId>, LedgerError> {
        self.0.redeem(code, what_for, now).await
    }

    async fn account_events(
        &self,
        account: &AccountId,
        limit: u32,
    ) -> Result<Vec<AccountEvent>, LedgerError> {
        self.0.account_events(account, limit).await
    }
}

#[async_trait]
impl MailOutbox for NoOutbox {
    async fn take_mails(
        &self,
        limit: u32,
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<DueMail>, LedgerError> {
        self.0.take_mails(limit, lease, now).await
    }

    async fn issue_code(&self, mail: &DueMail, code: &NewCode) -> Result<Addressee, LedgerError> {
        self.0.issue_code(mail, code).await
    }

    async fn finish_mail(&self, mail: MailId, again: Option<Timestamp>) -> Result<(), LedgerError> {
        self.0.finish_mail(mail, again).await
    }

    async fn forget_mails(&self, now: Timestamp) -> Result<(), LedgerError> {
        self.0.forget_mails(now).await
    }
}

/// A mail server that is away. Nothing comes to it here, because nothing is in the outbox.
#[derive(Debug)]
struct Away;

#[async_trait]
impl Mailer for Away {
    async fn send(&self, _letter: &Letter) -> Result<(), MailError> {
        Err(MailError::Away("away".to_owned()))
    }
}

/// The account is there, and its key is shown once: so it is shown, though the mail can't be asked for. What is asked for by
/// itself says that it failed.
#[tokio::test]
async fn a_sign_up_whose_mail_cannot_be_asked_for_shows_its_key() {
    let rig = Rig::start_mailing(unlimited(), |ledger| {
        infera_gateway::Mail::new(
            &Arc::new(NoOutbox(Arc::clone(ledger))),
            Arc::new(Away),
            MailConfig::default(),
        )
    })
    .await;
    let json_type = [("Content-Type", "application/json")];
    let body = json!({ "email": "bea@example.com" }).to_string();
    let signed_up = rig.send("POST", "/signup_user", &json_type, body.as_bytes()).await;
    assert_eq!(signed_up.status, 200, "{}", signed_up.json());
    let object = signed_up.json();
    let (key, message) = (object["api_key"].as_str(), object["message"].as_str());
    assert!(message.is_some_and(|message| message.contains("could not be asked for")), "{object}");
    let key = key.expect("a key");
    let headers = [("api_key", key), json_type[0]];
    let reply = rig.send("POST", "/submit_job", &headers, job().to_string().as_bytes()).await;
    assert_eq!(reply.status, 200, "the key works: {}", reply.json());
    let asked = rig.send("POST", "/v1/account/address", &headers, body.as_bytes()).await;
    assert_eq!(asked.status, 503, "{}", asked.json());
}
