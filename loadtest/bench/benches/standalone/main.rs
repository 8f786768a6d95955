//! `make bench`: one table of what this network costs, each figure beside a limit that is measured in the same run.
//!
//! * **submits** (a): `POST /submit_job` on 64 kept connections, answered 200 with a job's id, which is committed by
//!   then. Limits: the ledger alone on the same rows, and hyper alone answering the same bytes. One after the other
//!   they could do `1 / (1/ledger + 1/hyper)`; the ratio to that shows what everything else in the gateway costs.
//! * **latency** (b): one connection, one chat request at a time through gateway, verifier and three nodes whose
//!   engine takes no time, less the same client's time at hyper alone. The three commits that such a request waits
//!   for (accept, take, settle) are measured alone and shown apart.
//! * **decoding** (c): tokens per second of the ONNX engine at batches of 1, 4 and 16, and of 32 jobs of mixed length, with
//!   caches in fixed buffers over moving ones.
//! * **verifying** (d): jobs that are already in the ledger, from the first notice until all are settled by a
//!   verifier and three nodes whose engine takes no time; and how many commits that took.
//! * **footprint** (e): `infera up` as a newcomer starts it: from exec to ready, and its memory when idle.
//! * **first-token** (f): the time to a stream's first token with three nodes, two of which must agree, over that with one node alone;
//!   their engines take 100 ms for a prompt, a half more or less. Printed, without a limit, with the bundled model too.
//! * **open-streams** (g): a thousand streams at once of five tokens a second each: the gaps between tokens over the time of one, and
//!   memory a stream.
//! * **unstreamed** (h): CPU time of a job that doesn't stream over that of another commit's program; only with `--base`.
//!
//! Every figure is the median of interleaved rounds, with the lowest and the highest beside it; a ratio is the median of
//! the rounds' ratios. Clients run in this process and share the cores with what they measure.

mod commits;
mod decoding;
mod first_token;
mod footprint;
mod heard;
mod latency;
mod machine;
mod model;
mod open_streams;
mod run;
mod settings;
mod stage;
mod submits;
mod unstreamed;
mod verifying;

use clap::Parser as _;
use infera_bench::Fault;

use crate::settings::Settings;

fn main() -> Result<(), Fault> {
    run::all(&Settings::parse())
}
