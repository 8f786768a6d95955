//! Checks what every ledger promises, one promise at a time, through the halves' traits alone.
//!
//! Each check needs a ledger of its own, because the sweep, the projector and the archive process everything in it.
//! An implementation runs all checks with [`ledger_conformance!`](crate::ledger_conformance). Whether answered jobs
//! survive the end of the process cannot be checked from within; each implementation tests that beside this suite.

mod archiving;
mod bytes;
mod choices;
mod clocks;
mod damage;
mod ending;
mod erased_accounts;
mod erased_segments;
mod erasing;
mod feeding;
mod groups;
mod halves;
mod hanging_up;
mod intake;
mod keys;
mod listing;
mod mail;
mod many;
mod money;
mod network;
mod pools;
mod retention;
mod roster;
mod sample;
mod standing;
mod storing;
mod sweeping;
mod taking;

pub use archiving::*;
pub use bytes::*;
pub use choices::*;
pub use clocks::*;
pub use damage::*;
pub use ending::*;
pub use erased_accounts::*;
pub use erased_segments::*;
pub use erasing::*;
pub use feeding::*;
pub use groups::*;
pub use halves::Halves;
pub use hanging_up::*;
pub use intake::*;
pub use keys::*;
pub use listing::*;
pub use mail::*;
pub use many::*;
pub use money::*;
pub use network::*;
pub use pools::*;
pub use retention::*;
pub use roster::*;
pub use standing::*;
pub use storing::*;
pub use sweeping::*;
pub use taking::*;

use halves::{at, must, refused};

/// Makes one test per promise. The argument is an expression, awaited once a test, for an empty ledger that
/// dereferences to [`Halves`].
#[macro_export]
macro_rules! ledger_conformance {
    ($make:expr) => {
        $crate::ledger_conformance!(@each $make;
            an_accepted_job_waits_and_only_its_account_sees_it
            an_idempotency_key_makes_one_job
            an_end_that_answers_nobody_frees_its_key
            a_job_accepted_again_is_the_same_job
            commits_come_through
            an_account_has_no_more_waiting_jobs_than_it_may
            waiting_jobs_are_counted_right_among_many_callers
            requests_take_no_more_room_than_they_may
            room_is_counted_right_among_many_callers
            a_poison_job_harms_no_neighbour
            a_job_is_cancelled_once_and_by_its_account

            several_jobs_are_accepted_together_or_not_at_all
            a_batch_is_decided_in_its_order
            a_batch_accepted_again_is_the_same_batch
            a_batch_counts_and_is_counted_among_many_callers
            a_poison_job_refuses_its_batch_alone
            several_jobs_are_cancelled_together
            several_answers_are_one_request
            the_prompt_of_several_answers_is_charged_once
            a_failed_answer_gives_up_the_others
            several_answers_are_cancelled_together
            lists_show_an_accounts_jobs_in_order
            jobs_are_found_by_their_ids
            metadata_stays_with_the_job
            ends_are_read_once_in_order_while_they_are_made
            ends_are_bounded_in_bytes_and_belong_to_their_account
            what_can_be_read_is_counted

            an_unowned_job_is_taken_whole
            a_live_owners_job_is_left_alone
            a_dead_owners_job_is_taken_and_counted
            a_redelivered_job_is_taken
            a_job_lost_alone_counts_for_several
            an_ended_job_answers_with_its_end
            a_job_twice_in_a_batch_is_one_handout
            a_released_job_was_never_handed_out
            misses_stay_with_the_job

            the_first_end_stays
            usage_is_posted_once_and_for_answers_only
            what_a_client_had_is_charged_when_it_hangs_up
            each_answer_is_charged_when_a_client_of_several_hangs_up
            one_of_many_ends_wins
            a_job_that_was_never_accepted_cannot_end
            any_text_survives_in_an_answer
            postings_are_posted_once
            a_node_has_one_valid_for_a_job
            a_poison_posting_harms_no_neighbour

            a_lease_has_one_holder_until_it_ends
            a_lease_is_let_go_of_by_its_holder_alone
            all_leases_can_be_ended
            unconfirmed_jobs_are_handed_out_again
            a_late_confirmation_hides_nothing
            a_dead_owners_jobs_are_handed_out_again
            jobs_of_an_empty_queue_are_handed_out_again
            jobs_with_dead_notices_are_handed_out_again
            jobs_past_their_deadline_are_to_expire
            queued_jobs_of_unserved_models_are_found
            overdue_groups_of_dead_verifiers_are_found
            a_sweep_is_bounded_and_begins_with_the_oldest

            a_share_fills_its_places_and_the_rest_is_held
            held_jobs_are_handed_out_by_no_sweep
            an_offered_job_is_like_any_other
            what_waits_is_counted_by_model_and_lane
            flows_are_found_in_order_and_none_is_skipped
            a_flow_says_what_its_answers_take
            jobs_about_to_expire_are_not_offered
            a_share_of_many_accounts_is_one_share
            tiers_and_lanes_stay_with_the_job

            balances_are_what_a_replay_gives
            projectors_take_turns
            standings_are_kept_by_node_and_model
            verdicts_on_chosen_nodes_weigh_nothing
            a_dispute_is_opened_once
            statistics_count_every_job_once

            the_catalogue_replaces_by_name
            a_node_is_found_again_by_its_secret
            a_node_comes_in_with_its_secret_and_its_accounts_scope
            a_revoked_node_stays_out
            a_node_is_shown_to_its_owner_alone
            an_owner_says_what_its_node_is_drawn_for
            what_a_nodes_owner_said_survives_its_registration
            a_nodes_days_are_what_its_verdicts_add_up_to
            nodes_that_served_lately_are_listed
            a_group_is_made_found_and_deleted_by_its_account
            a_node_is_in_a_group_only_if_both_want_it
            groups_are_bounded
            the_groups_that_an_account_may_use_are_bounded
            the_groups_that_a_node_is_in_are_bounded
            an_accounts_own_groups_are_listed_first
            what_draws_are_told_has_a_version
            a_groups_users_are_those_that_its_account_allows
            private_nodes_and_backstops_are_told_to_draws
            an_id_is_no_name
            a_keys_pool_goes_on_to_its_successor
            a_job_keeps_its_pool_and_is_held_again_when_it_is_released
            the_first_epoch_stays
            an_account_is_made_once_and_keys_are_revoked
            accounts_are_proven_and_weighed_and_keys_prioritise
            keys_are_listed_and_changed
            a_rotated_key_has_one_successor
            a_successor_takes_over_and_is_counted
            blocked_keys_and_accounts_open_nothing
            usage_is_counted_by_day_key_and_model

            every_sign_up_makes_an_account
            mails_are_bounded_in_all_by_address_and_by_network
            mails_are_bounded_by_kind
            a_mail_has_one_sender_at_a_time_until_it_is_finished
            a_code_proves_an_address_once_and_in_time
            an_address_is_proven_for_one_account
            wrong_secrets_end_a_code
            a_lost_key_comes_back_to_a_proven_account_alone
            models_have_the_price_that_was_set_last
            a_job_costs_what_it_was_accepted_for
            a_limit_has_no_room_for_more
            a_limit_holds_among_many_callers
            unpaid_jobs_are_known_to_their_owner
            keys_that_replace_each_other_spend_from_one_purse

            closed_jobs_are_claimed_once
            a_segment_waits_until_it_is_full_or_ripe
            large_records_fill_a_segment
            a_called_off_jobs_record_waits_for_its_group
            a_segment_is_recorded_and_its_records_found
            places_must_fit_the_claim
            only_archived_bodies_are_pruned
            a_pruned_jobs_key_and_group_are_forgotten
            a_segment_is_pruned_as_a_whole_and_the_oldest_first
            what_the_archive_lost_is_kept
            poisoned_jobs_are_found_whole_until_they_are_pruned
            a_group_and_an_answer_come_back_to_the_bit
            postings_come_back_as_they_were
            groups_leave_before_bodies
            a_segment_without_its_groups_is_kept
            text_is_erased_after_its_group_left

            a_job_that_is_not_stored_is_archived_without_text
            an_ended_jobs_text_is_erased_when_that_is_ordered
            a_text_waits_for_its_open_group
            an_account_is_erased_job_by_job
            an_order_holds_for_jobs_that_are_committed_late
            an_account_is_not_erased_while_a_segment_waits
            a_rewritten_segment_that_is_kept_is_written_again
            a_segment_is_replaced_step_by_step
            segments_have_one_retention_and_expire_whole
            a_segment_with_a_retention_spans_an_hour
            records_with_a_retention_wait_longer_for_a_whole_segment
            keys_say_how_long_text_is_kept

            a_notice_from_a_clock_ahead_is_overdue
            a_lease_from_a_clock_ahead_is_none
            a_group_from_a_clock_ahead_is_overdue
            an_archive_from_a_clock_ahead_is_overdue
            an_admission_from_a_clock_ahead_is_over
        );
    };
    (@each $make:expr; $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                let ledger = $make.await;
                $crate::ledger::$check(&ledger).await;
            }
        )*
    };
}
