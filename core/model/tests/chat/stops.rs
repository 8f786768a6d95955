//! Tests that an answer's text ends where its definition says, for every way in which the Hub's tokenizers spell text: at
//! the first stop string that a token completes, or that the end does.

use infera_model::chat::{ChatModel, StoppedText};
use infera_types::knobs::Knobs;
use infera_types::numbers::TokenId;
use proptest::prelude::*;

use super::streams::{bundled_alone, by_pieces, metaspace, streamed};
use crate::bundled_model;

fn knobs(stop: &[&str], min_tokens: u32) -> Knobs {
    Knobs { stop: stop.iter().map(|&text| text.to_owned()).collect(), min_tokens, ..Knobs::default() }
}

/// Searches the whole text for the first end.
fn by_definition(pieces: &[String], knobs: &Knobs) -> StoppedText {
    let whole = pieces.concat();
    let tokens_count = pieces.len() - 1;
    let mut known = 0;
    for (index, piece) in pieces.iter().enumerate() {
        let counts = (index + 1).min(tokens_count) >= knobs.min_tokens as usize;
        let begins = knobs.stop.iter().flat_map(|stop| {
            let ends = known + 1..=known + piece.len();
            (0..whole.len())
                .filter(move |at| ends.contains(&(at + stop.len())))
                .filter(|&at| whole.is_char_boundary(at) && whole[at..].starts_with(stop.as_str()))
        });
        if let Some(begin) = begins.min().filter(|_| counts) {
            let stopped_at = (index < tokens_count).then_some(index);
            return StoppedText { text: whole[..begin].to_owned(), stopped_at };
        }
        known += piece.len();
    }
    StoppedText { text: whole, stopped_at: None }
}

/// Checks a whole answer's text, and what is given out of it token by token.
fn check(model: &ChatModel, tokens: &[TokenId], knobs: &Knobs) -> Result<(), TestCaseError> {
    let expected = by_definition(&streamed(model, tokens), knobs);
    prop_assert_eq!(&model.answer_text(tokens, knobs).expect("known tokens"), &expected);
    let (mut stream, mut told) = (model.answer_stream(knobs), String::new());
    for (index, &token) in tokens.iter().enumerate() {
        let cut = stream.push(token).expect("known tokens");
        told += &cut.text;
        prop_assert!(expected.text.starts_with(&told), "{:?} of {:?}", told, expected);
        prop_assert_eq!(cut.is_complete, expected.stopped_at.is_some_and(|stopped| index >= stopped));
    }
    told += &stream.finish().expect("known tokens");
    prop_assert_eq!(told, expected.text);
    Ok(())
}

#[test]
fn a_stop_string_may_cross_tokens_and_their_bytes() {
    let model = bundled_model();
    let encode = |text: &str| bundled_alone().encode_fast(text, false).expect("a text").get_ids().to_vec();
    let tokens = encode("one two\n\nthree 東 four");
    let find =
        |stop: &str, min_tokens| model.answer_text(&tokens, &knobs(&[stop], min_tokens)).expect("known");
    assert_eq!(find("o\n\nth", 0).text, "one tw");
    assert_eq!(find(" 東 ", 0).text, "one two\n\nthree");
    assert_eq!(
        find("five", 0),
        StoppedText { text: "one two\n\nthree 東 four".to_owned(), stopped_at: None }
    );
    let stopped = find("東", 0);
    let at = stopped.stopped_at.expect("it is there");
    assert_eq!(model.answer_text(&tokens[..=at], &knobs(&["東"], 0)).expect("known"), stopped);
    assert_eq!(model.answer_text(&tokens[..at], &knobs(&["東"], 0)).expect("known").stopped_at, None);
    // The token that completes it counts.
    let tokens_count = u32::try_from(at + 1).expect("few");
    assert_eq!(find("東", tokens_count), stopped);
    assert_eq!(find("東", tokens_count + 1).stopped_at, None);
}

#[test]
fn bytes_that_only_the_end_settles_are_cut_and_end_nothing() {
    let (model, alone) = by_pieces();
    let id = |token: &str| alone.token_to_id(token).expect(token);
    let tokens = ["a", "<0xC3>", "<0xA9>", "b"].map(id);
    let find = |tokens: &[TokenId]| model.answer_text(tokens, &knobs(&["é"], 0)).expect("known");
    assert_eq!(find(&tokens[..3]), StoppedText { text: "a".to_owned(), stopped_at: None });
    assert_eq!(find(&tokens), StoppedText { text: "a".to_owned(), stopped_at: Some(3) });
}

fn stops() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[ab .é。€\u{fffd}]{1,3}", 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn bytes_in_any_order(
        tokens in prop::collection::vec(0_u32..900, 0..40),
        cut in prop::collection::vec((0_usize..200, 1_usize..8), 0..4),
        min_tokens in prop_oneof![Just(0_u32), 0..40_u32],
    ) {
        // Stop strings are taken from the text, which has no other in common with random ones.
        let text: Vec<char> = bundled_model().decode(&tokens).expect("known tokens").chars().collect();
        let taken = cut.iter().map(|&(at, length)| text.iter().skip(at % text.len().max(1)).take(length).collect());
        let stop = taken.filter(|stop: &String| !stop.is_empty()).collect();
        check(bundled_model(), &tokens, &Knobs { stop, min_tokens, ..Knobs::default() })?;
    }

    #[test]
    fn pieces_in_any_order(
        tokens in prop::collection::vec(prop_oneof![0_u32..270, 258_u32..270, 197_u32..245], 0..40),
        stop in stops(),
        min_tokens in prop_oneof![Just(0_u32), 0..40_u32],
    ) {
        for (model, _) in [by_pieces(), metaspace()] {
            check(model, &tokens, &Knobs { stop: stop.clone(), min_tokens, ..Knobs::default() })?;
        }
    }

    #[test]
    fn sound_texts(text in "[ab .é。€🎉 ]{0,24}", stop in stops(), min_tokens in prop_oneof![Just(0_u32), 0..20_u32]) {
        let knobs = Knobs { stop, min_tokens, ..Knobs::default() };
        for (model, alone) in [(&by_pieces().0, &by_pieces().1), (&metaspace().0, &metaspace().1), (bundled_model(), bundled_alone())] {
            let tokens = alone.encode_fast(text.as_str(), false).expect("a text");
            check(model, tokens.get_ids(), &knobs)?;
        }
    }
}
