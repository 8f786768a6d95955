//! The commands about accounts' API keys, as they are typed. Every program that holds a ledger's accounts has the same; each
//! carries them out on its own ledger.

use clap::Subcommand;

/// The commands about API keys. An account is named by its id or by the e-mail address that it signed up with.
#[derive(Clone, Debug, Subcommand)]
pub enum KeyCommand {
    /// Make an operator's key, with the scopes user and admin, and print it once. Its account is made if it doesn't exist.
    CreateAdmin {
        /// The address of its account. The default belongs to no person.
        #[arg(long, default_value = "admin@infera.invalid")]
        email: String,
    },
    /// Make a key of an account and print it once.
    Create {
        /// The account.
        account: String,
        /// A name, for lists.
        #[arg(long, default_value = "")]
        name: String,
        /// What it permits, with commas: user, node, fleet, admin.
        #[arg(long, default_value = "user")]
        scopes: String,
        /// How long it is valid, in seconds. Without this it doesn't expire.
        #[arg(long)]
        expires_in_s: Option<u64>,
    },
    /// List an account's keys, newest first.
    List {
        /// The account.
        account: String,
    },
    /// Make a key's successor and print it once; the key stays valid for a while.
    Rotate {
        /// The key's id (`key_…`).
        id: String,
        /// How long the old key stays valid, in seconds.
        #[arg(long, default_value_t = 3_600)]
        overlap_s: u64,
    },
    /// Revoke a key by its id, for good.
    Revoke {
        /// The key's id (`key_…`).
        id: String,
    },
    /// Block a key (`key_…`) or an account: gateways refuse it within five seconds.
    Block {
        /// The key's id, or the account.
        what: String,
    },
    /// Take a block back.
    Unblock {
        /// The key's id, or the account.
        what: String,
    },
}
