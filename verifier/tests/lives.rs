//! Whole lives of jobs: a real verifier on the embedded seams, with nodes that speak the broker's messages and a
//! toy model. Faults are wrappers around the seams. One program, so that it is linked once.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test's helpers may fail the test")]

mod lives {
    pub(crate) mod faults;
    pub(crate) mod moody;
    pub(crate) mod network;
    pub(crate) mod node;

    mod archiving;
    mod ends;
    mod erasing;
    mod erasing_in_turns;
    mod feeding;
    mod groups;
    mod interleavings;
    mod knobs;
    mod lanes;
    mod models;
    mod out_of_time;
    mod outages;
    mod pools;
    mod sharing;
    mod streaming;
    mod sweeping;
    mod trials;
    mod unfillable;
    mod unpaid;
    mod versions;
    mod wishes;
}
