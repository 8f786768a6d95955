//! The figures in `docs/api.md` are the defaults of the settings that stand beside them.

#![expect(clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use serde_json::Value;

/// Returns the number of a setting's own unit that a figure stands for: `512 KiB` is 524,288 bytes, and `1 h` is 3,600,000
/// for a setting in milliseconds.
fn number(figure: &str, setting: &str) -> u64 {
    let (digits, unit) = figure.split_once(' ').unwrap_or((figure, ""));
    let digits: u64 = digits.replace(',', "").parse().unwrap_or_else(|_| panic!("{figure} is no figure"));
    let factor = match unit {
        "" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        "GiB" => 1024 * 1024 * 1024,
        "s" | "min" | "h" => {
            let seconds = match unit {
                "s" => 1,
                "min" => 60,
                _ => 3_600,
            };
            if setting.ends_with("_ms") { seconds * 1_000 } else { seconds }
        }
        _ => panic!("{figure} has an unknown unit"),
    };
    digits * factor
}

#[test]
fn each_figure_of_the_api_is_a_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/api.md");
    let page = std::fs::read_to_string(path).expect("docs/api.md");
    let settings = serde_json::to_value(infera::config::Config::default()).expect("settings");
    let mut compared = 0;
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [_, figure, setting] = cells[..] else { continue };
        let Some(setting) = setting.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) else {
            continue;
        };
        // Two words in a cell are no setting.
        if setting.contains('`') {
            continue;
        }
        let pointer = format!("/{}", setting.replace('.', "/"));
        let value = settings.pointer(&pointer).and_then(Value::as_u64);
        assert_eq!(Some(number(figure, setting)), value, "{row}");
        compared += 1;
    }
    assert!(compared >= 14, "{compared} figures");
}
