//! The bodies that are compared: some generated from each route's fields, others picked by hand.
//!
//! Some bodies are left out. FastAPI itself fails with 500 when it prints `NaN`, infinities and halves of surrogate
//! pairs. Python 3.13 changed the message about a comma before a closing brace. And we refuse on purpose some bodies
//! that the reference accepts: addresses outside ASCII and UTF-16. Bodies that are plainly an OpenAI client's are served.

use std::collections::BTreeSet;

use super::Case;
use super::values::*;
use crate::support::rig::MODEL;

/// The content type of nearly all bodies.
pub(crate) const JSON: Option<&str> = Some("application/json");
const MESSAGES: &str = r#"[{"role":"user","content":"x"}]"#;

/// Returns a body with its fields in order, some of them replaced.
fn body(fields: &[(&str, &str)], replaced: &str, value: &str) -> Vec<u8> {
    let members: Vec<String> = fields
        .iter()
        .map(|(name, good)| format!("\"{name}\":{}", if *name == replaced { value } else { good }))
        .collect();
    format!("{{{}}}", members.join(",")).into_bytes()
}

fn fields(path: &str) -> Vec<(&'static str, &'static str)> {
    let length = if path == "/submit_job" { "max_output" } else { "max_tokens" };
    // The model's name as a JSON string; see the assertion in `good`.
    let mut fields =
        vec![("model", "\"test-model\""), ("messages", MESSAGES), (length, "5"), ("temperature", "0.5")];
    if path == "/chat/completions" {
        fields.push(("request_timeout_time", "5"));
    }
    fields
}

/// Bodies that FastAPI refuses.
pub(crate) fn bad() -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |path, content_type, body: Vec<u8>| cases.push(Case { path, content_type, body });
    for path in ["/chat/completions", "/submit_job"] {
        let fields = fields(path);
        for (name, _) in &fields {
            let wrong: &[&str] = match *name {
                "model" => WRONG_TEXTS,
                "messages" => WRONG_MESSAGES,
                "temperature" => WRONG_NUMBERS,
                _ => WRONG_INTEGERS,
            };
            wrong.iter().for_each(|value| add(path, JSON, body(&fields, name, value)));
            if *name == "max_tokens" || *name == "max_output" {
                add(path, JSON, body(&fields, name, "null"));
                add(path, JSON, body(&fields, name, &format!("\"{}\"", "1".repeat(4301))));
            }
        }
        // Every set of missing fields but the empty one. The fifth field is optional.
        for kept in 0..15_usize {
            let kept: Vec<_> =
                (0..4).filter(|field| kept >> field & 1 == 1).map(|field| fields[field]).collect();
            add(path, JSON, body(&kept, "", ""));
        }
        let everything_wrong: Vec<_> = fields.iter().map(|(name, _)| (*name, "{}")).collect();
        add(path, JSON, body(&everything_wrong, "", ""));
        let good = body(&fields, "", "");
        for content_type in [
            None,
            Some(""),
            Some("text/plain"),
            Some("application/x-www-form-urlencoded"),
            Some("application/jsonx"),
            Some("multipart/form-data"),
            Some("json"),
            Some("application/"),
            Some("application/json/x"),
            Some("application /json"),
            Some("application/json, text/plain"),
            Some("\"application/json\""),
            Some("text/json"),
            Some("*/*"),
        ] {
            add(path, content_type, good.clone());
        }
        add(path, Some("text/plain"), Vec::new());
        add(path, Some("text/plain"), "{\"a\":é}".into());
    }
    for path in ["/chat/completions", "/submit_job", "/signup_user"] {
        BROKEN.iter().for_each(|broken| add(path, JSON, broken.to_vec()));
        add(path, JSON, vec![b'['; 10_000]);
        add(path, JSON, vec![b'1'; 5_000]);
        // Deeper nesting is accepted too, but its echo is cut.
        add(path, JSON, [vec![b'['; 90], vec![b']'; 90]].concat());
    }
    for email in WRONG_EMAILS {
        add("/signup_user", JSON, format!("{{\"email\":\"{email}\"}}").into_bytes());
    }
    for (local, domain) in [(250, 2), (300, 5), (2100, 1), (1, 64), (1, 70)] {
        let email = format!("{}@{}.co", "a".repeat(local), "b".repeat(domain));
        add("/signup_user", JSON, format!("{{\"email\":\"{email}\"}}").into_bytes());
    }
    let long_domain = format!("{{\"email\":\"a@{}c\"}}", "b.".repeat(130));
    add("/signup_user", JSON, long_domain.into_bytes());
    WRONG_TEXTS.iter().for_each(|value| add("/signup_user", JSON, body(&[("email", "")], "email", value)));
    let mut seen = std::collections::HashSet::new();
    cases.retain(|case| seen.insert(case.clone()));
    cases
}

/// Bodies of the right shape, each with one value beyond a limit of ours.
pub(crate) fn beyond_limits() -> Vec<Case> {
    let mut cases = Vec::new();
    for path in ["/chat/completions", "/submit_job"] {
        let mut fields = fields(path);
        fields.truncate(4);
        fields.extend([("seed", "7"), ("verification", "{}")]);
        for (name, _) in &fields {
            let beyond: &[&str] = match *name {
                "messages" => BEYOND_MESSAGES,
                "max_tokens" | "max_output" => BEYOND_LENGTHS,
                "temperature" => BEYOND_TEMPERATURES,
                "seed" => BEYOND_SEEDS,
                "verification" => BEYOND_VERIFICATIONS,
                _ => &[],
            };
            let bodies = beyond.iter().map(|value| body(&fields, name, value));
            cases.extend(bodies.map(|body| Case { path, content_type: JSON, body }));
        }
    }
    cases
}

/// Bodies that FastAPI takes.
pub(crate) fn good() -> Vec<Case> {
    assert_eq!(MODEL, "test-model", "the bodies name it");
    let mut cases = Vec::new();
    let mut add = |path, content_type, body: Vec<u8>| cases.push(Case { path, content_type, body });
    for path in ["/chat/completions", "/submit_job"] {
        let fields = fields(path);
        for (name, _) in &fields {
            let good: &[&str] = match *name {
                "temperature" => GOOD_NUMBERS,
                "max_tokens" | "max_output" => GOOD_INTEGERS,
                "request_timeout_time" => &["null", "5", "\"60\"", "60.0", "0", "-1", "100000"],
                _ => &[],
            };
            good.iter().for_each(|value| add(path, JSON, body(&fields, name, value)));
        }
        let whole = body(&fields, "", "");
        for content_type in [
            "application/json; charset=utf-8",
            "APPLICATION/JSON",
            "application/vnd.api+json",
            "application/json;",
            "application/json ; charset=latin-1",
            "application/x+JSON",
        ] {
            add(path, Some(content_type), whole.clone());
        }
        add(path, JSON, [b"\xef\xbb\xbf \n".as_slice(), &whole, b"\t"].concat());
        add(path, JSON, body(&[fields.clone(), vec![("unknown", "{\"a\":[1]}")]].concat(), "", ""));
        add(path, JSON, body(&fields[..4], "", ""));
    }
    let emails: BTreeSet<&str> = [
        "ada@b.co",
        " ada@b.co ",
        "Ada@B.CO",
        "Ada Lovelace <ada@b.co>",
        "<ada@b.co>",
        "a+b@c.co",
        "a.b@c-d.co",
        "Info@b.co",
        "!#$%&'*+/=?^_`{|}~-@b.co",
        "a@xy.b.co",
        "a@1.co",
    ]
    .into();
    for email in emails {
        add("/signup_user", JSON, format!("{{\"email\":\"{email}\"}}").into_bytes());
    }
    cases
}
