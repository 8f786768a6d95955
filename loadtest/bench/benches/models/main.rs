//! `make bench-models`: decoding beside other engines, on the same weights, in one run, with equal threads, prompts and
//! numbers of tokens. No token ends an answer, and everybody takes the likeliest token.
//!
//! * **(a)** tokens per second with 1, 4 and 16 clients that ask again when they are answered, and of 32 jobs at once; ours
//!   also over the bare steps of our engine with as many sequences.
//! * **(b)** a long prompt alone and beside 15 running sequences: its time to first token, and what its coming does to the
//!   gaps between the others' tokens.
//! * **(c)** the largest resident memory of each process.
//! * **(d)** where the time of our side goes.
//!
//! Every engine is a process of its own, ours too (this program, started with `--serve`): it gets token ids and streams
//! tokens, whose arrival is timed here. llama.cpp does so over HTTP, the others over a pipe. What takes part, and how it is
//! started, stands in a file that `infra/peers` writes. Rounds interleave the engines; a ratio is computed in each round,
//! and then its median is taken.

mod crowd;
mod jobs;
mod long;
mod observed;
mod piped;
mod run;
mod serve;
mod settings;
mod side;
mod streamed;
mod table;

use clap::Parser as _;
use infera_bench::Fault;

use crate::settings::Settings;

fn main() -> Result<(), Fault> {
    let settings = Settings::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match settings.serve() {
        Some(variant) => runtime.block_on(serve::serve(&settings, variant)),
        None => runtime.block_on(run::compare(&settings)),
    }
}
