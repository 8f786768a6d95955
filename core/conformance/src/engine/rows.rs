//! Checks the form in which an engine gives its rows.

use infera_engine::{Engine, Row, Scoring};

use super::stage::{Promise, done, name, prompts, scripts};

/// An engine that says so gives every token's logit in each row, of prompts, steps and scores; one that doesn't leaves some
/// out, so that it would be drawn for requests with knobs if it could.
pub fn rows_are_whole_where_it_is_said(engine: &mut dyn Engine, _: Promise) {
    let (vocabulary, are_whole) = (engine.description().vocabulary, engine.description().gives_whole_rows);
    let check = |row: Row<'_>| match row {
        Row::Full(logits) => assert!(are_whole && logits.len() == vocabulary, "a whole row"),
        Row::Top { .. } => assert!(!are_whole, "a row of the likeliest tokens"),
    };
    let scripts = scripts(engine, 1, 1);
    let (prompts, token) = (prompts(&scripts), scripts[0].steps[0]);
    let mut given = 0;
    while given == 0 {
        let _ = done(engine.prefill(&prompts, &mut |rows| {
            rows.iter().for_each(|(_, row)| check(*row));
            given += rows.len();
        }));
    }
    done(engine.decode(&[(name(0), token)], &mut |rows| rows.iter().for_each(|(_, row)| check(*row))));
    engine.release(&[name(0)]);
    let scoring = Scoring { sequence: name(0), prompt: prompts[0].tokens, answer: &[token] };
    while !done(engine.score(&scoring, &mut |_, row| check(row))).is_complete() {}
    engine.release(&[name(0)]);
}
