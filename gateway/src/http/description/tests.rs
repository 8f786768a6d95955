//! Holds the description against the tables that it is made from. What a running gateway answers is held against it in
//! `tests/it/description.rs`.

use std::collections::BTreeSet;

use super::*;
use crate::api::operation::Place;
use crate::fastapi::{Bound, Field, Kind};

fn document() -> Value {
    openapi(&Config::default())
}

#[test]
fn each_route_is_described_and_nothing_else() {
    let name = |method: &Method, path: &str| format!("{method} {path}");
    let routes: BTreeSet<String> = router::routes().map(|route| name(&route.method, route.path)).collect();
    let described: BTreeSet<String> = OPERATIONS.iter().map(|(method, path, _)| name(method, path)).collect();
    assert_eq!(described.len(), OPERATIONS.len(), "an operation twice");
    let missing: Vec<_> = routes.difference(&described).collect();
    assert!(missing.is_empty(), "no description in OPERATIONS (http/description.rs) of {missing:?}");
    let extra: Vec<_> = described.difference(&routes).collect();
    assert!(extra.is_empty(), "no route for {extra:?}");
    let verbs = document()["paths"]
        .as_object()
        .unwrap()
        .values()
        .map(|path| path.as_object().unwrap().len())
        .sum::<usize>();
    assert_eq!(verbs, routes.len());
}

#[test]
fn ids_are_unique_and_every_text_is_a_sentence() {
    let ids: BTreeSet<&str> = OPERATIONS.iter().map(|(_, _, operation)| operation.id).collect();
    assert_eq!(ids.len(), OPERATIONS.len(), "an id twice");
    for (_, path, operation) in OPERATIONS {
        let texts = [operation.about, operation.reply.about];
        for text in texts.into_iter().chain(operation.parameters.iter().map(|one| one.about)) {
            assert!(text.ends_with('.') && text.len() > 5, "{path}: {text:?} is no sentence");
        }
        assert!(!operation.summary.is_empty() && !operation.summary.ends_with('.'), "{path}");
        let variables: Vec<&str> =
            path.split('{').skip(1).filter_map(|rest| rest.split('}').next()).collect();
        let named: Vec<&str> =
            operation.parameters.iter().filter(|one| one.place == Place::Path).map(|one| one.name).collect();
        assert_eq!(named, variables, "{path}: the parameters in the path");
    }
}

#[test]
fn each_error_of_an_operation_is_in_the_table_and_on_its_face() {
    for (method, path, operation) in OPERATIONS {
        let route = router::routes().find(|route| route.method == *method && route.path == *path).unwrap();
        let all = OF_ALL.iter().chain(of_access(route)).chain(&OF_BODIES).chain(operation.errors);
        for code in all {
            let line = codes::of(code).unwrap_or_else(|| panic!("{path}: the code {code} is in no table"));
            assert!(!line.statuses(face(path)).is_empty(), "{path}: {code} has no status on this face");
        }
    }
}

#[test]
fn examples_are_json_with_fields_that_are_described() {
    for (_, path, operation) in OPERATIONS {
        let Some(body) = &operation.body else { continue };
        let example: Value = serde_json::from_str(body.example).unwrap();
        let whole = Schemas::new(&Config::default()).of(body.shape);
        // An example of a body with several forms has the first one.
        let schema = if whole["anyOf"].is_array() { &whole["anyOf"][0] } else { &whole };
        for (name, value) in example.as_object().unwrap() {
            assert!(!schema["properties"][name].is_null(), "{path}: {name} = {value}");
        }
        for name in schema["required"].as_array().unwrap() {
            assert!(!example[name.as_str().unwrap()].is_null(), "{path}: {name} is missing");
        }
    }
}

/// Asserts that each field says what it means, and that its bounds are settings that exist.
fn check_fields(path: &str, fields: &'static [Field], settings: &Value) {
    for field in fields {
        assert!(
            field.about.ends_with('.'),
            "{path}: the field {} has no sentence (Field::about)",
            field.name
        );
        let most = match field.range {
            crate::fastapi::Range::Integers { most, .. } => Some(most),
            _ => None,
        };
        for bound in [most, field.default].into_iter().flatten() {
            if let Bound::Setting(name) = bound {
                assert!(settings[name].is_number(), "{path}: {} is bounded by no setting {name}", field.name);
            }
        }
        check_kind(path, &field.kind, settings);
    }
}

fn check_kind(path: &str, kind: &'static Kind, settings: &Value) {
    match kind {
        Kind::Object(fields) => check_fields(path, fields, settings),
        Kind::List(inner) | Kind::Nullable(inner) => check_kind(path, inner, settings),
        _ => {}
    }
}

/// Checks the tables of a body, and returns how many there are.
fn check_shape(path: &str, shape: Shape, settings: &Value) -> usize {
    match shape {
        Shape::Fields(fields) | Shape::Closed(fields) => {
            check_fields(path, fields, settings);
            1
        }
        Shape::Conversation { fields, .. } => {
            check_fields(path, fields, settings);
            check_fields(path, crate::api::chat_form::OPTIONS, settings);
            1
        }
        Shape::Jobs => {
            check_fields(path, crate::api::jobs_request::ITEM, settings);
            1
        }
        Shape::Either(shapes) => shapes.iter().map(|shape| check_shape(path, *shape, settings)).sum(),
        other => panic!("{path}: {other:?} is no table by which a body is checked"),
    }
}

#[test]
fn each_field_of_a_body_is_described() {
    let settings = serde_json::to_value(Config::default()).unwrap();
    let mut tables = 0;
    for (_, path, operation) in OPERATIONS {
        if let Some(body) = &operation.body {
            tables += check_shape(path, body.shape, &settings);
        }
    }
    assert!(tables >= 15, "{tables}");
}

#[test]
fn bounds_follow_the_settings() {
    let bounds = |config: &Config| {
        let document = openapi(config);
        let body = &document["paths"]["/v1/chat/completions"]["post"]["requestBody"];
        let properties = &body["content"]["application/json"]["schema"]["properties"];
        (
            properties["max_completion_tokens"]["maximum"].clone(),
            properties["max_completion_tokens"]["default"].clone(),
            properties["temperature"]["maximum"].clone(),
            body["description"].clone(),
        )
    };
    let changed =
        Config { max_tokens_max: 77, max_tokens_default: 7, body_max_bytes: 4_321, ..Config::default() };
    assert_eq!(bounds(&changed), (json!(77), json!(7), json!(2.0), json!("At most 4321 bytes.")));
    assert_eq!(bounds(&Config::default()).0, json!(8_192));
}

#[test]
fn references_lead_somewhere() {
    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(name, member)| match member {
                Value::String(text) if name == "$ref" => found.push(text),
                _ => references(member, found),
            }),
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = document();
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        assert!(document.pointer(&reference[1..]).is_some_and(Value::is_object), "{reference}");
    }
}
