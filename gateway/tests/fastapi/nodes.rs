//! The bodies and queries of the routes for nodes and their owners that are compared.
//!
//! Bodies with a secret in them are left out where an error would echo it: FastAPI repeats it, and we hide it.

use super::Case;
use super::bodies::JSON;
use super::values::{BROKEN, WRONG_INTEGERS, WRONG_TEXTS};

const WRONG_LISTS: &[&str] = &["null", "5", "\"x\"", "{}", "true", "[1]", "[\"a\",null,{},[]]"];
const WRONG_OBJECTS: &[&str] = &["null", "5", "\"x\"", "[]", "true", "[[\"a\",1]]"];

/// One field: its name, a good value, wrong values, and whether it is required.
type Field = (&'static str, &'static str, &'static [&'static str], bool);

const REGISTRATION: &[Field] =
    &[("node_url", "\"a\"", WRONG_TEXTS, true), ("node_version", "\"1\"", &["5", "[]", "{}", "true"], false)];

const ROUTES: &[(&str, &[Field])] = &[
    ("/daily_points", &[("node_name", "\"a\"", WRONG_TEXTS, true), ("last_days", "7", WRONG_INTEGERS, true)]),
    ("/node_jobs_stats", REGISTRATION),
    ("/worker/register_node", REGISTRATION),
    ("/worker/deregister_node", REGISTRATION),
    (
        "/worker/update_models",
        &[("node_url", "\"a\"", WRONG_TEXTS, true), ("models", "[\"m\"]", WRONG_LISTS, true)],
    ),
    (
        "/worker/update_result",
        &[
            ("job_id", "\"j\"", WRONG_TEXTS, true),
            ("api_key", "5", WRONG_TEXTS, true),
            ("model_name", "\"m\"", WRONG_TEXTS, true),
            ("result", "{}", WRONG_OBJECTS, true),
            ("status", "\"s\"", WRONG_TEXTS, true),
        ],
    ),
    (
        "/register_node_secret",
        &[("node_id", "\"a\"", WRONG_TEXTS, true), ("secret", "5", &["5", "[]"], true)],
    ),
    ("/check_node_secret", &[("node_id", "\"a\"", WRONG_TEXTS, true), ("secret", "5", &["5", "[]"], true)]),
];

/// Queries of `GET /node_model_mapping` that FastAPI refuses.
pub(crate) const BAD_QUERIES: &[&str] = &[
    "",
    "?",
    "?time_frame",
    "?time_frame=",
    "?time_frame=x",
    "?time_frame=1.5",
    "?time_frame=0",
    "?time_frame=-1",
    "?time_frame=721",
    "?time_frame=99999999999999999999999",
    "?time_frame=24&time_frame=never",
    "?time_frame=%C3%A9+%22",
    "?Time_Frame=24",
];

fn body(fields: &[(&str, &str)]) -> Vec<u8> {
    let members: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(",")).into_bytes()
}

/// Bodies that FastAPI refuses.
pub(crate) fn bad() -> Vec<Case> {
    let mut cases = Vec::new();
    for (path, fields) in ROUTES {
        let mut add = |body: Vec<u8>| cases.push(Case { path, content_type: JSON, body });
        for (name, _, wrong, _) in *fields {
            for value in *wrong {
                let replaced = |field: &Field| (field.0, if field.0 == *name { value } else { field.1 });
                add(body(&fields.iter().map(replaced).collect::<Vec<_>>()));
            }
            let without = fields.iter().filter(|field| field.0 != *name).map(|field| (field.0, field.1));
            if fields.iter().any(|field| field.0 == *name && field.3) {
                add(body(&without.collect::<Vec<_>>()));
            }
        }
        let everything_wrong: Vec<_> = fields.iter().map(|field| (field.0, "5.5")).collect();
        add(body(&everything_wrong));
        add(b"{}".to_vec());
        BROKEN.iter().for_each(|broken| add(broken.to_vec()));
    }
    cases
}

/// Bodies of the right shape, each with one value beyond a limit of ours.
pub(crate) fn beyond_limits() -> Vec<Case> {
    let days = ["0", "-1", "366", "\"366\"", "1e3", "9223372036854775808"];
    let days = days.map(|days| ("/daily_points", body(&[("node_name", "\"a\""), ("last_days", days)])));
    let many = format!("[{}]", ["\"m\""; 65].join(","));
    let models = ("/worker/update_models", body(&[("node_url", "\"a\""), ("models", &many)]));
    let cases = days.into_iter().chain([models]);
    cases.map(|(path, body)| Case { path, content_type: JSON, body }).collect()
}
