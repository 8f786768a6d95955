//! Checks what every [`Broker`](infera_broker::Broker) promises, one promise at a time. The checks use the trait
//! alone: each makes its own queues under names that nothing else uses, and waits where a broker may be slow.
//!
//! An implementation runs all checks with [`broker_conformance!`](crate::broker_conformance).

mod fleeting;
mod lasting;
mod stage;
mod taking;

pub use fleeting::*;
pub use lasting::*;
pub use taking::*;

/// Makes one test per promise. The argument is an expression for an `Arc<dyn Broker>`, awaited once a test.
///
/// ```text
/// infera_conformance::broker_conformance!(async { MemoryBroker::new() as Arc<dyn Broker> });
/// ```
#[macro_export]
macro_rules! broker_conformance {
    ($make:expr) => {
        $crate::broker_conformance!(@each $make;
            confirmed_messages_arrive_whole_and_in_order
            what_matches_no_queue_is_unroutable
            a_full_queue_refuses_and_keeps_nothing
            a_queue_with_too_many_bytes_refuses_and_keeps_nothing
            a_topic_reaches_every_matching_queue_once
            the_two_exchanges_are_apart
            publishing_never_waits_for_a_consumer
            declaring_again_changes_nothing
            declaring_otherwise_is_a_mismatch
            depth_counts_what_waits
            deleting_ends_the_queue_and_its_consumers
            an_exclusive_queue_goes_with_its_consumer
            an_idle_queue_goes
            expired_messages_are_dropped
            what_is_not_there_cannot_be_consumed
            acked_messages_never_come_again
            nacked_messages_come_again_marked
            a_dropped_consumer_gives_back_in_order_and_marked
            a_dropped_delivery_is_held_until_its_consumer_goes
            an_ack_after_the_consumer_is_too_late
            prefetch_bounds_what_is_held
            a_prefetch_of_zero_pauses
            an_abandoned_wait_loses_nothing
            consumers_of_one_queue_share
            what_comes_back_too_often_is_a_dead_letter
            fleeting_messages_arrive_whole_and_in_order
            a_fleeting_message_without_a_queue_is_handed_on_and_kept_nowhere
            a_fleeting_message_is_kept_by_other_queues_that_are_not_full
            a_fleeting_queue_drops_the_oldest_messages
            a_fleeting_queue_drops_the_oldest_bytes
            a_fleeting_queue_is_never_full
            a_fleeting_delivery_is_settled_when_it_is_taken
            a_slow_reader_loses_the_oldest
            a_paused_reader_loses_the_oldest
            a_fleeting_queue_goes_with_its_consumer
            a_contradictory_queue_is_refused
            declaring_a_fleeting_queue_otherwise_is_a_mismatch
        );
    };
    (@each $make:expr; $($check:ident)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $check() {
                $crate::broker::$check(&*$make.await).await;
            }
        )*
    };
}
