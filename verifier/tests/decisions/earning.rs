//! Which answers earn their nodes points.

use infera_types::ids::{AccountId, OwnerId};
use infera_types::money::Payment;
use infera_verifier::decisions::earning::Demand;

#[test]
fn only_paid_work_for_others_earns() {
    let (account, other) = (AccountId::new("acct1"), AccountId::new("acct2"));
    let (own, strangers) = (OwnerId::of_account(&account), OwnerId::of_account(&other));
    let anonymous = OwnerId::anonymous();
    for (payment, is_billed, earns) in [
        (Payment::Free, true, true),
        (Payment::Free, false, true),
        (Payment::Paid, true, true),
        (Payment::Paid, false, false),
        (Payment::Unpaid, true, false),
        (Payment::Unpaid, false, false),
    ] {
        let demand = Demand { account: &account, payment, is_billed, is_for_chosen_nodes: false };
        assert_eq!(demand.earns(&strangers), earns, "{demand:?}");
        assert_eq!(demand.earns(&anonymous), earns, "{demand:?}");
        assert!(!demand.earns(&own), "{demand:?}");
        let chosen = Demand { is_for_chosen_nodes: true, ..demand };
        assert!(!chosen.earns(&strangers), "whoever asked chose its nodes: {demand:?}");
    }
}
