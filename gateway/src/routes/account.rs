//! `/v1/account`: the caller's own account, proving its address by mail, and a new key for a lost one. What strangers ask is
//! answered alike for every address.

mod described;
mod pages;

use infera_ledger::{AccountEvent, CodeUse, LedgerError, RecoveredKey};
use infera_types::ids::KeyId;
use serde_json::json;

use super::call::Call;
use crate::access::{ApiKey, KeyCache};
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::reply::Reply;
use crate::fastapi::{Checked, Field, Flaw, Json, Kind, Mistakes, Range, Step, Unfit, check_closed};
use crate::mail::{MailCode, Post};

pub(crate) use described::{ADDRESS, PAGE, PROVE, RECOVER, RECOVER_KEY, SHOW};

/// The largest number of events that are shown, newest first.
const EVENTS_MAX: u32 = 20;

/// What may become of the keys that an account has when it gets one for a lost one.
const OTHER_KEYS: &[&str] = &["keep", "revoke"];

const EMAIL: &[Field] =
    &[Field::required("email", Kind::Email).about("The e-mail address. Capitals make no difference.")];

const CODE: &[Field] = &[Field::required("code", Kind::Text)
    .about("The code in the mail: 43 characters.")
    // 32 bytes as base64: the last character has four bits.
    .range(Range::Pattern("^[0-9A-Za-z_-]{42}[AEIMQUYcgkosw048]$"))];

const CODE_FOR_A_KEY: &[Field] = &[
    CODE[0],
    Field::optional("other_keys", Kind::Nullable(&Kind::Text))
        .about(
            "`keep` leaves the account's other keys as they are, which is the default; `revoke` ends them.",
        )
        .range(Range::Words(OTHER_KEYS)),
];

/// Shows the caller's account.
///
/// # Errors
/// The ledger's.
pub(crate) async fn show(post: Option<&Post>, call: &Call) -> Result<Reply, Failure> {
    let caller = call.caller()?;
    let events = match post {
        Some(post) => post.events(&caller.account, EVENTS_MAX).await.map_err(failed)?,
        None => Vec::new(),
    };
    let events: Vec<_> = events.iter().map(event).collect();
    Ok(Reply::json(&json!({
        "id": caller.account,
        "object": "account",
        "proven": caller.is_proven,
        "mail": post.is_some(),
        "events": events,
    }))?)
}

fn event(event: &AccountEvent) -> serde_json::Value {
    let AccountEvent { kind, at_ms, key } = event;
    json!({ "event": kind.word(), "time": at_ms.as_secs(), "key": key })
}

/// Asks for a mail that proves an address of the caller's account.
///
/// # Errors
/// Mistakes in the body; [`ApiError::NoMail`]; the ledger's.
pub(crate) async fn ask_for_proof(post: Option<&Post>, call: &Call) -> Result<Reply, Failure> {
    let (caller, email) = (call.caller()?, email(call)?);
    let post = post.ok_or(ApiError::NoMail)?;
    post.ask_for_proof(caller.account.clone(), email, call.address).await.map_err(failed)?;
    asked("If the address can be proven for this account, a mail with a link is on its way to it.")
}

/// Asks for a mail with a code for a lost key.
///
/// # Errors
/// As [`ask_for_proof`].
pub(crate) async fn ask_for_recovery(post: Option<&Post>, call: &Call) -> Result<Reply, Failure> {
    let email = email(call)?;
    let post = post.ok_or(ApiError::NoMail)?;
    post.ask_for_recovery(email, call.address).await.map_err(failed)?;
    asked("If an account has proven this address, a mail with a code for a new key is on its way to it.")
}

/// Shows the page that a mail links to. It confirms nothing by itself, because programs that look mails over follow links.
///
/// # Errors
/// [`ApiError::NoMail`].
pub(crate) fn page(post: Option<&Post>, call: &Call) -> Result<Reply, Failure> {
    post.ok_or(ApiError::NoMail)?;
    let code = pages::code_in(call.head.uri.query().unwrap_or_default());
    Ok(match code.as_deref().and_then(MailCode::parse) {
        Some(code) => pages::to_confirm(&code),
        None => pages::broken_link(),
    })
}

/// Proves an address by the code in a mail, which is sent as JSON or by the page's button.
///
/// # Errors
/// Mistakes in the body; [`ApiError::NoMail`], [`ApiError::CodeNotValid`]; the ledger's.
pub(crate) async fn prove(post: Option<&Post>, cache: &KeyCache, call: &Call) -> Result<Reply, Failure> {
    let is_form = pages::is_form(&call.head.headers);
    let code = if is_form {
        let text = pages::code_in(&String::from_utf8_lossy(call.body.bytes()));
        text.as_deref().and_then(MailCode::parse)
    } else {
        let body = call.json()?;
        let [code] = check_closed(&body, CODE).map_err(Unfit::from)?.into_fields();
        Some(parsed(code, &body)?)
    };
    let post = post.ok_or(ApiError::NoMail)?;
    let proven = match &code {
        Some(code) => post.redeem(code, &CodeUse::Proof).await.map_err(failed)?,
        None => None,
    };
    if let Some(account) = &proven {
        cache.forget(|_, whose| *whose == *account);
    }
    match (proven, is_form) {
        (Some(_), true) => Ok(pages::proven()),
        (None, true) => Ok(pages::not_valid()),
        (Some(account), false) => {
            Ok(Reply::json(&json!({ "id": account, "object": "account", "proven": true }))?)
        }
        (None, false) => Err(ApiError::CodeNotValid.into()),
    }
}

/// Gives an account a new key for the code in a mail, and shows the key once.
///
/// # Errors
/// As [`prove`].
pub(crate) async fn recover(post: Option<&Post>, cache: &KeyCache, call: &Call) -> Result<Reply, Failure> {
    let body = call.json()?;
    let [code, others] = check_closed(&body, CODE_FOR_A_KEY).map_err(Unfit::from)?.into_fields();
    let code = parsed(code, &body)?;
    let revokes_others = match others {
        Checked::Text(word) if word == "revoke" => true,
        Checked::Text(word) if word != "keep" => {
            return Err(wrong("other_keys", "Input should be 'keep' or 'revoke'", &body).into());
        }
        _ => false,
    };
    let post = post.ok_or(ApiError::NoMail)?;
    let key = ApiKey::generate().map_err(|error| {
        tracing::error!(%error, "no key could be made");
        ApiError::Internal
    })?;
    let row =
        RecoveredKey { hash: key.hash(), hint: key.hint().to_owned(), id: KeyId::fresh(), revokes_others };
    let what_for = CodeUse::Recovery(row.clone());
    let account = post.redeem(&code, &what_for).await.map_err(failed)?.ok_or(ApiError::CodeNotValid)?;
    if revokes_others {
        cache.forget(|_, whose| *whose == account);
    }
    tracing::info!(%account, key = %row.id, revokes_others, "a lost key was replaced by mail");
    Ok(Reply::json(&json!({
        "object": "api_key",
        "id": row.id,
        "account": account,
        "key": key.expose(),
        "other_keys": if revokes_others { "revoke" } else { "keep" },
    }))?)
}

/// Says that something was asked for, in the same words whatever comes of it.
fn asked(message: &str) -> Result<Reply, Failure> {
    let reply = Reply::json(&json!({ "status": "accepted", "message": message }))?;
    Ok(reply.with_status(hyper::StatusCode::ACCEPTED))
}

/// Reads the address in a body.
fn email(call: &Call) -> Result<String, Unfit> {
    let [email] = check_closed(&call.json()?, EMAIL)?.into_fields();
    Ok(email.into_text().to_ascii_lowercase())
}

/// Returns the code in a checked field. An error doesn't repeat it.
fn parsed(code: Checked, body: &Json) -> Result<MailCode, Unfit> {
    let code = MailCode::parse(&code.into_text());
    code.ok_or_else(|| wrong("code", "Input should be the code of 43 characters that is in the mail", body))
}

fn wrong(field: &'static str, message: &'static str, body: &Json) -> Unfit {
    let mut mistakes = Mistakes::default();
    let shown = if field == "code" { &Json::Null } else { body.get(field).unwrap_or(&Json::Null) };
    mistakes.add(&[Step::name(field)], Flaw::new("value_error", message), shown);
    mistakes.into()
}

fn failed(error: LedgerError) -> ApiError {
    tracing::error!(%error, "an account could not be proven, recovered or shown");
    ApiError::from(&error)
}
