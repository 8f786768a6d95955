//! The commands about accounts' API keys, as they are typed. Every program that holds a ledger's accounts has the same; each
//! carries them out on its own ledger.

use clap::Subcommand;
use serde::{Deserialize, Serialize};

/// The commands about API keys. An account is named by its id or by the e-mail address that it signed up with.
#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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
        /// Erase the text of its jobs some minutes after their ends, unless a job says otherwise.
        #[arg(long)]
        no_store: bool,
        /// The days after which the text and the records of its jobs are deleted. Without this they are not.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        retention_days: Option<u32>,
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
    /// Say for how long the text of a key's jobs is kept. What is left out stays; jobs that were accepted before keep their
    /// terms.
    Retain {
        /// The key's id (`key_…`).
        id: String,
        /// Whether its jobs are stored, if they don't say so themselves.
        #[arg(long)]
        store: Option<bool>,
        /// The days after which the text and the records of its jobs are deleted; 0: they are not.
        #[arg(long, value_parser = clap::value_parser!(u32).range(0..=36_500))]
        retention_days: Option<u32>,
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
