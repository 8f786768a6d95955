//! How an operator names an account: by its id, or by the address that it signed up with, in any spelling that signs up.

use infera_ledger::{AccountLook, LedgerError};
use infera_types::ids::AccountId;

use crate::fastapi::email;

/// Returns the form in which the ledger knows what an operator wrote. An address is spelt as a sign-up spells it; what has no
/// `@` is an account's id.
pub(super) fn known_as(named: &str) -> String {
    if !named.contains('@') {
        return named.to_owned();
    }
    email::normalise(named).unwrap_or_else(|_| named.to_owned()).to_ascii_lowercase()
}

/// Returns the account that an operator names; none if no account signed up with the address. An id is not looked up.
///
/// # Errors
/// [`LedgerError`].
pub(super) async fn account_named<L>(book: &L, named: &str) -> Result<Option<AccountId>, LedgerError>
where
    L: AccountLook + ?Sized,
{
    let known = known_as(named);
    if known.contains('@') { book.account_of(&known).await } else { Ok(Some(AccountId::new(known))) }
}
