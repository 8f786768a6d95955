//! The bodies that are compared: generated from each route's fields, and picked by hand.
//!
//! Left out, because FastAPI itself fails with 500 when it prints them: `NaN`, infinities and halves of surrogate
//! pairs. Left out, because Python's own message changed with 3.13: a comma before a closing brace. Left out, because
//! we refuse on purpose what the reference takes: addresses outside ASCII, UTF-16 bodies.

use std::collections::BTreeSet;

use super::Case;
use crate::support::rig::MODEL;

const JSON: Option<&str> = Some("application/json");
const MESSAGES: &str = r#"[{"role":"user","content":"x"}]"#;

const WRONG_TEXTS: &[&str] = &[
    "5",
    "1.5",
    "true",
    "null",
    "[]",
    "{}",
    "-0",
    "1e5",
    "12345678901234567890123",
    r#"["x"]"#,
    r#"{"a":1}"#,
];

const WRONG_INTEGERS: &[&str] = &[
    "1.5",
    "-1.5",
    "1e19",
    "1e30",
    "9223372036854775807.0",
    "-9223372036854775808.0",
    "4.9e-324",
    "[]",
    "{}",
    "[5]",
    r#""""#,
    r#""abc""#,
    r#""5.5""#,
    r#""_1""#,
    r#""1_""#,
    r#""1__0""#,
    r#""0_""#,
    r#""0x5""#,
    r#""0b1""#,
    r#""5.""#,
    r#"".5""#,
    r#"".0""#,
    r#""--5""#,
    r#""+-5""#,
    r#""-+5""#,
    r#""- 5""#,
    r#""1e3""#,
    r#""5e0""#,
    r#""٥""#,
    r#""１""#,
    r#""1,000""#,
    r#""-""#,
    r#""+""#,
    r#""_""#,
    r#""-_1""#,
    r#""1_.0""#,
    r#""1.0_""#,
    r#""5 .0""#,
    r#""1.0.0""#,
    r#""true""#,
    r#""null""#,
    r#""  ""#,
    r#""5\u0000""#,
    r#""\u001f5""#,
    r#""5\u200b""#,
    r#""\ufeff5""#,
    r#""é""#,
    r#""😀""#,
];

const WRONG_NUMBERS: &[&str] = &[
    "null",
    "[]",
    "{}",
    "[1]",
    r#""""#,
    r#""abc""#,
    r#""_1""#,
    r#""1_""#,
    r#""1__0""#,
    r#""1e""#,
    r#""e5""#,
    r#"".""#,
    r#""0x1p3""#,
    r#""0x10""#,
    r#""1,5""#,
    r#""1 2""#,
    r#""٥""#,
    r#""--5""#,
    r#""-""#,
    r#""nano""#,
    r#""infinit""#,
    r#""1d""#,
    r#""1.5.5""#,
    r#""  ""#,
    r#""\u001f5""#,
    r#""\u200b5""#,
    r#""1_.__5""#,
    r#""true""#,
];

const WRONG_MESSAGES: &[&str] = &[
    "5",
    "null",
    "true",
    "{}",
    r#""x""#,
    r#"{"0":{"role":"u","content":"c"}}"#,
    r#"[1,"a",null,[],{},true,1.5]"#,
    r#"[{}]"#,
    r#"[{},{}]"#,
    r#"[{"role":1,"content":null}]"#,
    r#"[{"role":[],"content":{}}]"#,
    r#"[{"content":"a"},{"role":"b"}]"#,
    r#"[{"role":"user","content":"x"},{"role":"user"}]"#,
    r#"[{"role":"user","content":[{"type":"text","text":"a"}]}]"#,
    r#"[{"Role":"user","Content":"x"}]"#,
    r#"[[{"role":"user","content":"x"}]]"#,
    r#"[{"role":"user","content":"x","extra":{"deep":[1,2]}},7]"#,
];

const BROKEN: &[&[u8]] = &[
    b"",
    b" ",
    b"null",
    b"[]",
    b"[1]",
    b"\"x\"",
    b"5",
    b"true",
    b"{}",
    b"-0",
    b"-0.0",
    b"1e5",
    b"1E+5",
    b"{",
    b"[",
    b"[1",
    b"[1,",
    b"[,]",
    b"[1 2]",
    b"{,}",
    b"{\"a\"",
    b"{\"a\":",
    b"{\"a\":}",
    b"{\"a\":1",
    b"{\"a\":1]",
    b"{\"a\" 1}",
    b"{a:1}",
    b"{'a':1}",
    b"{1:2}",
    b"{\"a\":1 \"b\":2}",
    b"{\"a\":tru}",
    b"nul",
    b"{\"a\":\"\x01\"}",
    b"\"abc",
    b"\"a\\\"",
    b"\"\\",
    b"\"\\x\"",
    b"\"\\u12\"",
    b"\"\\u12g4\"",
    b"\"\\u1234",
    b"\"\\ud800\\u12\"",
    b"{} x",
    b"{}{}",
    b"01",
    b"-01",
    b"1.",
    b"1.e",
    b".5",
    b"+1",
    b"-",
    b"--1",
    b"-NaN",
    b"\x0b{}",
    b"\xc2\xa0{}",
    b"\"\xc3\xa9\" x",
    b"{\"\xc3\xa9\":x}",
    b"{\"\xf0\x9f\x98\x80\":\n x}",
    b"\"tab\there\"",
    b"\xef\xbb\xbf{}",
    b"\xef\xbb\xbf{",
    b"\t\n\r {}",
    b"{\"a\":1,\"a\":\"b\"}",
    b"{\"model\":1,\"model\":\"m\"}",
    b"\xff",
    b"{\"a\":\"\xff\"}",
    b"{\"a\":\"\xc3\"}",
    b"// {}",
    b"{}//",
    b"<xml/>",
    b"a=b&c=d",
    b"\x00",
    b"True",
    b"None",
    b"undefined",
];

const WRONG_EMAILS: &[&str] = &[
    "",
    "a",
    "@",
    "a@",
    "@b.co",
    "a@b",
    "a b@c.de",
    "a@b..c",
    "a@b.1",
    "a@-b.co",
    "a@b-.co",
    "a@b.co-",
    "a@test",
    "a@x.test",
    "a@localhost",
    "a@x.local",
    "a@x.invalid",
    "a@x.onion",
    "a@1.2.arpa",
    "a@b@c.de",
    ".a@b.co",
    "a.@b.co",
    "a..b@c.de",
    "a@.co",
    "a@b.co.",
    "a@b_c.de",
    "a@ab--c.de",
    "a@[1.2.3.4]",
    "\\\"q\\\"@b.co",
    "\\\"q q\\\"@b.co",
    "a(b@c.de",
    "'; drop@c.de",
    "a@b.co>",
    "a,b@c.de",
    "mailto:a@b.co",
    "a@b,c.de",
    "a@b c.de",
    "a\\u0000@b.co",
    "a@b\\u0000.co",
    "a@b.co\\n",
    "a\\r@b.co",
    "a\\\\b@c.de",
    "a;b[c]@d.ef",
    "a@b!c.de",
    "\\\"\\\"@b.co",
    "a@b/c.de",
    "a:b:c@d:e.f",
];

const GOOD_INTEGERS: &[&str] = &[
    "5",
    "5.0",
    "1e2",
    "true",
    r#""5""#,
    r#"" 5 ""#,
    r#""+5""#,
    r#""005""#,
    r#""1_0""#,
    r#""5.00""#,
    r#""0__1""#,
    r#""5\n""#,
    r#""\u00a05""#,
    r#""+00_1""#,
];

const GOOD_NUMBERS: &[&str] = &[
    "0",
    "1",
    "-0.0",
    "0.5",
    "true",
    "false",
    r#""1""#,
    r#"" 1.5 ""#,
    r#""1e-1""#,
    r#"".5""#,
    r#""1.""#,
    r#""+1.5""#,
    r#""0_0.5""#,
    "1e-400",
    r#""1._5""#,
];

/// A body with its fields in order, some replaced.
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
        // Every set of missing fields but the empty one; the fifth may always be missing.
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
        add(path, JSON, [vec![b'['; 300], vec![b']'; 300]].concat());
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
