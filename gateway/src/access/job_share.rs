//! Decides what a caller's jobs are counted under when the network is shared.

use std::net::IpAddr;

use infera_ledger::Share;

use super::client_network::RentedNetwork;
use super::keys::Caller;

/// The share that jobs are counted under, and its weight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JobShare {
    /// The share.
    pub(crate) share: Share,
    /// Its weight, at least 1.
    pub(crate) weight: u32,
}

impl JobShare {
    /// Returns what the jobs of a caller at this address are counted under. A proven account counts by itself. Unproven
    /// ones cost nothing to make, so all of one network count as one account.
    pub(crate) fn of(caller: &Caller, address: IpAddr) -> Self {
        if caller.is_proven {
            Self { share: Share::new(caller.account.as_str()), weight: caller.weight }
        } else {
            Self { share: Share::new(format!("net:{}", RentedNetwork::from(address))), weight: 1 }
        }
    }
}

#[cfg(test)]
mod tests {
    use infera_ledger::Scopes;
    use infera_types::ids::{AccountId, Digest, KeyId};

    use super::*;

    #[test]
    fn unproven_accounts_of_a_network_are_one_share_of_weight_one() {
        for (is_proven, address, share, weight) in [
            (true, "192.0.2.9", "acct1", 5),
            (false, "192.0.2.9", "net:192.0.2.0/24", 1),
            (false, "2001:db8:1:2::3", "net:2001:db8:1::/48", 1),
        ] {
            let caller = Caller {
                key: Digest::of(b"key"),
                account: AccountId::new("acct1"),
                is_proven,
                weight: 5,
                may_prioritise: true,
                id: KeyId::fresh(),
                scopes: Scopes::default(),
                expires_ms: None,
                pool: infera_ledger::NodePool::Open,
                privacy: infera_ledger::KeyPrivacy::default(),
            };
            let counted = JobShare::of(&caller, address.parse().unwrap());
            assert_eq!((counted.share.as_str(), counted.weight), (share, weight));
        }
    }
}
