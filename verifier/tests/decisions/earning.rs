//! Which answers earn their nodes points.

use infera_types::ids::{AccountId, OwnerId};
use infera_verifier::decisions::earning::Demand;

#[test]
fn only_paid_work_for_others_earns() {
    let (account, other) = (AccountId::new("acct1"), AccountId::new("acct2"));
    let (own, strangers) = (OwnerId::of_account(&account), OwnerId::of_account(&other));
    for (is_unpaid, owner, earns) in [
        (false, &strangers, true),
        (false, &OwnerId::anonymous(), true),
        (false, &own, false),
        (true, &strangers, false),
        (true, &OwnerId::anonymous(), false),
        (true, &own, false),
    ] {
        assert_eq!(Demand { account: &account, is_unpaid }.earns(owner), earns, "{is_unpaid} {owner}");
    }
}
