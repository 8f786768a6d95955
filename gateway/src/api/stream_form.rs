//! Reads whether and how a conversation's answer is streamed: `stream`, `stream_options`, and `release` in `verification`.

use infera_types::request::Release;

use crate::fastapi::{Flaw, Json, Mistakes, Step};

/// How an answer is streamed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamAsked {
    /// When tokens go to the client.
    pub(crate) release: Release,
    /// Whether the last chunk tells the usage.
    pub(crate) has_usage: bool,
}

/// Reads how the answer is streamed; none if it isn't. With one replica there is nothing to agree with. Where the client doesn't
/// wait (`waits`) it can't be.
pub(super) fn read(body: &Json, waits: bool, replicas: u8, mistakes: &mut Mistakes) -> Option<StreamAsked> {
    let asked = body.get("stream").filter(|value| **value != Json::Null);
    let streams = match asked {
        None => false,
        Some(Json::Bool(streams)) => *streams,
        Some(value) => {
            mistakes.add(
                &[Step::name("stream")],
                Flaw::new("bool_type", "Input should be a valid boolean"),
                value,
            );
            false
        }
    };
    let has_usage = read_options(body, streams, mistakes);
    let release = read_release(body, replicas, mistakes);
    if !streams {
        return None;
    }
    if !waits {
        refuse(body, mistakes);
    }
    Some(StreamAsked { release, has_usage })
}

/// Refuses a stream where nobody could read it.
pub(super) fn refuse(body: &Json, mistakes: &mut Mistakes) {
    if let Some(asked @ Json::Bool(true)) = body.get("stream") {
        let message = "A submitted job isn't streamed: leave 'stream' out, or ask for a chat completion";
        mistakes.add(&[Step::name("stream")], Flaw::new("unsupported", message), asked);
    }
}

/// Reads `stream_options`, which only a stream may have, as in OpenAI's API. Returns whether the usage is asked for.
fn read_options(body: &Json, streams: bool, mistakes: &mut Mistakes) -> bool {
    let options = match body.get("stream_options") {
        None | Some(Json::Null) => return false,
        Some(options @ Json::Object(_)) => options,
        Some(value) => {
            let flaw = Flaw::new("dict_type", "Input should be a valid dictionary");
            mistakes.add(&[Step::name("stream_options")], flaw, value);
            return false;
        }
    };
    if !streams {
        let flaw = Flaw::new("unsupported", "'stream_options' is only allowed when 'stream' is true");
        mistakes.add(&[Step::name("stream_options")], flaw, options);
    }
    match options.get("include_usage") {
        None | Some(Json::Null) => false,
        Some(Json::Bool(has_usage)) => *has_usage,
        Some(value) => {
            let location = [Step::name("stream_options"), Step::name("include_usage")];
            mistakes.add(&location, Flaw::new("bool_type", "Input should be a valid boolean"), value);
            false
        }
    }
}

/// Reads when tokens go to the client. What is no object at all was noted with the policy.
fn read_release(body: &Json, replicas: u8, mistakes: &mut Mistakes) -> Release {
    let default = if replicas == 1 { Release::First } else { Release::Agreed };
    let given = body.get("verification").and_then(|verification| verification.get("release"));
    let asked = match given {
        None | Some(Json::Null) => return default,
        Some(Json::Text(word)) => match word.as_str() {
            "agreed" => Some(Release::Agreed),
            "first" => Some(Release::First),
            "verified" => Some(Release::Verified),
            _ => None,
        },
        Some(_) => None,
    };
    let location = [Step::name("verification"), Step::name("release")];
    let value = given.unwrap_or(&Json::Null);
    match asked {
        Some(Release::Agreed) if replicas == 1 => {
            let message =
                "With one replica there is nothing to agree with: Input should be 'first' or 'verified'";
            mistakes.add(&location, Flaw::new("unsupported", message), value);
            default
        }
        Some(release) => release,
        None => {
            mistakes.add(&location, Flaw::not_among("'agreed', 'first' or 'verified'"), value);
            default
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fastapi::json;

    fn asked(text: &str, waits: bool, replicas: u8) -> Result<Option<StreamAsked>, Vec<String>> {
        let body = json::read(text.as_bytes()).unwrap();
        let mut mistakes = Mistakes::default();
        let asked = read(&body, waits, replicas, &mut mistakes);
        mistakes.none_or(asked).map_err(|unfit| vec![format!("{unfit:?}")])
    }

    #[test]
    fn what_is_asked_is_read() {
        let stream = |release, has_usage| Some(StreamAsked { release, has_usage });
        for (text, replicas, expected) in [
            ("{}", 3, None),
            (r#"{"stream":false,"stream_options":null}"#, 3, None),
            (r#"{"stream":null,"verification":{"release":"first"}}"#, 3, None),
            (r#"{"stream":true}"#, 3, stream(Release::Agreed, false)),
            (r#"{"stream":true}"#, 1, stream(Release::First, false)),
            (
                r#"{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
                3,
                stream(Release::Agreed, true),
            ),
            (r#"{"stream":true,"verification":{"release":"first"}}"#, 3, stream(Release::First, false)),
            (r#"{"stream":true,"verification":{"release":"verified"}}"#, 1, stream(Release::Verified, false)),
        ] {
            assert_eq!(asked(text, true, replicas), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, waits, replicas, said) in [
            (r#"{"stream":"yes"}"#, true, 3, "valid boolean"),
            (r#"{"stream":true}"#, false, 3, "isn't streamed"),
            (r#"{"stream_options":{"include_usage":true}}"#, true, 3, "only allowed when"),
            (r#"{"stream":true,"stream_options":[]}"#, true, 3, "valid dictionary"),
            (r#"{"stream":true,"stream_options":{"include_usage":1}}"#, true, 3, "valid boolean"),
            (r#"{"stream":true,"verification":{"release":"agreed"}}"#, true, 1, "nothing to agree with"),
            (r#"{"stream":true,"verification":{"release":"soon"}}"#, true, 3, "'verified'"),
            (r#"{"verification":{"release":2}}"#, true, 3, "'verified'"),
        ] {
            let wrong = asked(text, waits, replicas).unwrap_err();
            assert!(wrong[0].contains(said), "{text}: {wrong:?}");
        }
    }
}
