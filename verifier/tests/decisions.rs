//! The verifier's decisions, as tables and properties. One program, so that it is linked once.

#![expect(clippy::unwrap_used, reason = "a test's helpers may fail the test")]

mod decisions {
    pub(crate) mod sample;

    mod abilities;
    mod compare;
    mod earning;
    mod fair_share;
    mod group_draw;
    mod hanging_up;
    mod integrity;
    mod knob_checks;
    mod knob_replicas;
    mod lanes;
    mod points;
    mod pools;
    mod quorum;
    mod release;
    mod reputation;
    mod slots;
    mod thresholds;
    mod verdicts;
}
