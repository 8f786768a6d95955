//! Tests of the configuration: which source wins, what is refused, and that all mistakes are reported at once.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use infera_program::config::{ConfigErrors, Sources, dump, load, parse_flag};
use infera_types::secret::Secret;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Program {
    name: String,
    gateway: Gateway,
    models: Vec<Model>,
    #[serde(skip_serializing_if = "Option::is_none")]
    folder: Option<PathBuf>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Gateway {
    listen: String,
    port: u16,
    ratio: f64,
    open: bool,
    face: Face,
    origins: Vec<String>,
    secret: Secret,
    key_file: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Model {
    name: String,
    slots: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Face {
    Own,
    OpenAi,
}

impl Default for Program {
    fn default() -> Self {
        Self { name: "infera".to_owned(), gateway: Gateway::default(), models: Vec::new(), folder: None }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:8080".to_owned(),
            port: 1,
            ratio: 0.5,
            open: false,
            face: Face::Own,
            origins: Vec::new(),
            secret: Secret::default(),
            key_file: String::new(),
        }
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// Loads from a file with this text (none: no file), these variables and these flags.
fn loaded(
    file: Option<&str>,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Program, ConfigErrors> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = file.map(|text| {
        let path = folder.path().join("infera.toml");
        fs::write(&path, text).expect("a file");
        path
    });
    load(&Sources { file, environment: pairs(environment), flags: pairs(flags) })
}

/// Returns the mistakes as `source: key: problem`, with the source's folder removed.
fn mistakes(outcome: Result<Program, ConfigErrors>) -> Vec<String> {
    let errors = outcome.expect_err("mistakes");
    let short = |mistake: &infera_program::config::Mistake| {
        let source = mistake.source.rsplit('/').next().unwrap_or_default();
        format!("{source}: {}: {}", mistake.key, mistake.problem)
    };
    errors.mistakes.iter().map(short).collect()
}

#[test]
fn without_sources_there_are_the_defaults() {
    assert_eq!(loaded(None, &[], &[]), Ok(Program::default()));
    assert_eq!(loaded(Some(""), &[], &[]), Ok(Program::default()));
}

#[test]
fn later_sources_win() {
    let file = "[gateway]\nlisten = \"file\"\nport = 2\n";
    let variable = ("INFERA_GATEWAY__LISTEN", "variable");
    let flag = ("gateway.listen", "flag");
    let listen = |file, variables: &[_], flags: &[_]| {
        let gateway = loaded(file, variables, flags).expect("a configuration").gateway;
        (gateway.listen, gateway.port)
    };
    assert_eq!(listen(Some(file), &[], &[]), ("file".to_owned(), 2));
    assert_eq!(listen(Some(file), &[variable], &[]), ("variable".to_owned(), 2));
    assert_eq!(listen(Some(file), &[variable], &[flag]), ("flag".to_owned(), 2));
    assert_eq!(listen(None, &[], &[flag, ("gateway.listen", "last")]), ("last".to_owned(), 1));
}

#[test]
fn texts_become_what_their_key_wants() {
    type Check = fn(&Program) -> bool;
    let cases: [(&str, &str, Check); 19] = [
        ("gateway.port", "8080", |program| program.gateway.port == 8080),
        ("gateway.ratio", "1", |program| program.gateway.ratio == 1.0),
        ("gateway.ratio", "2.5e-1", |program| program.gateway.ratio == 0.25),
        ("gateway.open", "true", |program| program.gateway.open),
        ("gateway.face", "open_ai", |program| program.gateway.face == Face::OpenAi),
        ("gateway.origins", r#"["a", "b"]"#, |program| program.gateway.origins == ["a", "b"]),
        ("gateway", "{ port = 9, open = true }", |program| program.gateway.port == 9 && program.gateway.open),
        ("models", r#"[{ name = "m", slots = 3 }]"#, |program| program.models[0].slots == 3),
        ("folder", "/var/lib/infera", |program| program.folder == Some(PathBuf::from("/var/lib/infera"))),
        // Names that look like values of other types.
        ("name", "8080", |program| program.name == "8080"),
        ("name", "007", |program| program.name == "007"),
        ("name", "true", |program| program.name == "true"),
        ("name", "2026-11-22", |program| program.name == "2026-11-22"),
        ("name", "[a, b]", |program| program.name == "[a, b]"),
        ("name", "[\"a\"]", |program| program.name == "[\"a\"]"),
        ("name", "\"quoted\"", |program| program.name == "\"quoted\""),
        ("name", "a\nport = 3", |program| program.name == "a\nport = 3"),
        ("name", "1\nport = 3", |program| program.name == "1\nport = 3"),
        ("name", "", |program| program.name.is_empty()),
    ];
    for (key, text, check) in cases {
        let variable = format!("INFERA_{}", key.to_uppercase().replace('.', "__"));
        for outcome in [loaded(None, &[(&variable, text)], &[]), loaded(None, &[], &[(key, text)])] {
            let program = outcome.unwrap_or_else(|error| panic!("{key} = {text:?}: {error}"));
            assert!(check(&program), "{key} = {text:?} became {program:?}");
        }
    }
}

#[test]
fn every_mistake_is_told_with_its_key_and_source() {
    let file = "
        nmae = \"typo\"
        [gateway]
        port = \"eighty\"
        open = 3
        listn = \"x\"
        [gatewey]
        port = 1
    ";
    let variables = [
        ("INFERA_GATEWAY__RATIO", "half"),
        ("INFERA_GATEWAY__FACE", "xml"),
        ("INFERA_LISTEN", "x"),
        ("INFERA_GATEWAY____PORT", "1"),
        ("PATH", "not ours"),
    ];
    let flags = [("gateway.origins", "a"), ("gateway.listen.port", "70000"), ("folder", "fine")];
    let told = mistakes(loaded(Some(file), &variables, &flags));
    let expected = [
        "infera.toml: gateway.listn: unknown field `listn`",
        "infera.toml: gateway.open: invalid type: integer `3`",
        "infera.toml: gateway.port: invalid type: string \"eighty\"",
        "infera.toml: gatewey: unknown field `gatewey`",
        "infera.toml: nmae: unknown field `nmae`",
        "environment variable INFERA_GATEWAY__FACE: gateway.face: unknown variant `xml`",
        "environment variable INFERA_GATEWAY__RATIO: gateway.ratio: invalid type: string \"half\"",
        "environment variable INFERA_GATEWAY____PORT: gateway..port: a part of this key is empty",
        "environment variable INFERA_LISTEN: listen: unknown field `listen`",
        "flag gateway.listen.port: gateway.listen: invalid type: map",
        "flag gateway.origins: gateway.origins: invalid type: string \"a\"",
    ];
    for start in expected {
        assert!(told.iter().any(|told| told.starts_with(start)), "{start:?} is missing in {told:#?}");
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
}

#[test]
fn mistakes_are_told_as_they_were_first_read() {
    let cases = [
        ("gateway.port", "70000", "gateway.port: invalid value: integer `70000`, expected u16"),
        ("gateway.port", "-1", "gateway.port: invalid value: integer `-1`, expected u16"),
        ("gateway.open", "1", "gateway.open: invalid type: integer `1`, expected a boolean"),
        ("models", "[{ name = 3 }]", "models.[0].name: invalid type: integer `3`, expected a string"),
        ("models", "[{ slts = 3 }]", "models.[0].slts: unknown field `slts`, expected `name` or `slots`"),
        ("models", "[5]", "models.[0]: invalid type: integer `5`, expected struct Model"),
        ("gateway.prt_file", "/nowhere", "gateway.prt_file: unknown field `prt_file`"),
    ];
    for (key, text, expected) in cases {
        let told = mistakes(loaded(None, &[], &[(key, text)]));
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("flag {key}: {expected}")), "{told:?}");
    }
}

#[test]
fn a_broken_file_hides_no_other_mistake() {
    let told = mistakes(loaded(Some("[gateway\nport"), &[("INFERA_NMAE", "x")], &[]));
    assert_eq!(told.len(), 2, "{told:?}");
    let missing = Sources { file: Some("/nowhere/infera.toml".into()), ..Sources::default() };
    let errors = load::<Program>(&missing).expect_err("no file");
    assert!(errors.to_string().contains("/nowhere/infera.toml: can't be read"), "{errors}");
}

#[test]
fn what_has_no_default_is_missed_by_name() {
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        here: u8,
        inner: Inner,
    }
    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        needed: u8,
    }
    let read =
        |flags: &[(&str, &str)]| load::<Strict>(&Sources { flags: pairs(flags), ..Sources::default() });
    assert_eq!(
        read(&[("here", "1"), ("inner.needed", "2")]),
        Ok(Strict { here: 1, inner: Inner { needed: 2 } })
    );
    for (flags, expected) in [
        (vec![], "missing field `here`"),
        (vec![("here", "1")], "missing field `inner`"),
        (vec![("here", "x"), ("inner.needed", "2")], "flag here: here: invalid type"),
        (vec![("here", "1"), ("inner.needed", "x")], "flag inner.needed: inner.needed: invalid type"),
    ] {
        let errors = read(&flags).expect_err("something is missing");
        assert_eq!(errors.mistakes.len(), 1, "{errors}");
        assert!(errors.to_string().contains(expected), "{errors}");
    }
}

#[test]
fn secrets_come_from_files_and_are_not_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    fs::write(&path, "8080\n").expect("a file");
    let path = path.to_str().expect("Unicode");
    let file = "[gateway]\nsecret = \"old\"\n";
    let program = loaded(Some(file), &[("INFERA_GATEWAY__SECRET_FILE", path)], &[]).expect("a secret");
    assert_eq!(program.gateway.secret.expose(), "8080");
    assert!(
        !format!("{program:?}").contains("8080:")
            && format!("{:?}", program.gateway.secret) == "\"(hidden)\""
    );
    assert!(dump(&program).expect("TOML").contains("secret = \"(hidden)\""));

    // A flag wins; a real key that ends in `_file` is itself; two sources at once and a missing file are mistakes.
    let flag = loaded(None, &[("INFERA_GATEWAY__SECRET_FILE", path)], &[("gateway.secret", "flag")]);
    assert_eq!(flag.expect("a secret").gateway.secret.expose(), "flag");
    let real = loaded(None, &[("INFERA_GATEWAY__KEY_FILE", path)], &[]).expect("a key file");
    assert_eq!(real.gateway.key_file, path);
    let both = [("INFERA_GATEWAY__SECRET_FILE", path), ("INFERA_GATEWAY__SECRET", "x")];
    assert_eq!(mistakes(loaded(None, &both, &[])).len(), 1);
    let told = mistakes(loaded(None, &[("INFERA_GATEWAY__SECRET_FILE", "/nowhere/secret")], &[]));
    assert!(told.len() == 1 && told[0].contains("/nowhere/secret can't be read"), "{told:?}");
}

#[test]
fn reserved_variables_are_no_keys() {
    // The variables of `data/cluster.env` and `data/local.env`, if exported, must not keep programs from starting.
    let variables = [
        ("INFERA_URL", "http://x"),
        ("INFERA_API_KEY", "inf_x"),
        ("INFERA_MODEL", "infera-tiny"),
        ("INFERA_LOG", "debug"),
    ];
    assert_eq!(loaded(None, &variables, &[]), Ok(Program::default()));
    let sources = Sources { environment: pairs(&variables), ..Sources::default() };
    assert_eq!(sources.log_filter(), Some("debug"));
    assert_eq!(Sources::default().log_filter(), None);
    let process = Sources::from_process("nowhere.toml", None, Vec::new());
    assert!(process.environment.iter().all(|(name, _)| name.starts_with("INFERA_")));
}

#[test]
fn what_kubernetes_tells_of_services_is_no_setting() {
    // As Kubernetes sets them in every pod for a service `infera` and for a service `infera-gateway` with named
    // ports.
    let links = [
        ("INFERA_SERVICE_HOST", "10.0.0.1"),
        ("INFERA_SERVICE_PORT", "8710"),
        ("INFERA_SERVICE_PORT_HTTPS", "8710"),
        ("INFERA_PORT", "tcp://10.0.0.1:8710"),
        ("INFERA_PORT_8710_TCP", "tcp://10.0.0.1:8710"),
        ("INFERA_PORT_8710_TCP_PROTO", "tcp"),
        ("INFERA_PORT_8710_TCP_PORT", "8710"),
        ("INFERA_PORT_8710_TCP_ADDR", "10.0.0.1"),
        ("INFERA_GATEWAY_SERVICE_HOST", "fd00::1"),
        ("INFERA_GATEWAY_SERVICE_PORT_HTTP_ALT", "80"),
        ("INFERA_GATEWAY_PORT", "udp://[fd00::1]:53"),
        ("INFERA_GATEWAY_PORT_53_UDP", "udp://[fd00::1]:53"),
        ("INFERA_GATEWAY_PORT_9_SCTP_ADDR", "fd00::1"),
    ];
    assert_eq!(loaded(None, &links, &[]), Ok(Program::default()));
    let sources = Sources { environment: pairs(&links), ..Sources::default() };
    assert_eq!(sources.service_links().collect::<Vec<_>>(), links.map(|(name, _)| name));

    // A variable that merely resembles such a variable is still a key, and is reported as unknown.
    for (name, value) in [
        ("INFERA_PORT", "8710"),
        ("INFERA_PORT_HTTP_TCP", "1"),
        ("INFERA_PORT_70000_TCP", "1"),
        ("INFERA_PORT_1_TCP_OTHER", "1"),
        ("INFERA_GATEWAY_1_URL", "http://x"),
        ("INFERA_SERVICE_HOSTS", "x"),
    ] {
        let told = mistakes(loaded(None, &[(name, value)], &[]));
        assert!(told.len() == 1 && told[0].contains("unknown field"), "{name}: {told:?}");
    }
    let port = loaded(None, &[("INFERA_GATEWAY__PORT", "9")], &[]).expect("a setting");
    assert_eq!(port.gateway.port, 9);
}

#[test]
fn what_is_dumped_loads_as_it_was() {
    let program = Program {
        name: "tëst \"quoted\"\n".to_owned(),
        gateway: Gateway { port: 65_535, ratio: 0.1, origins: vec!["a".to_owned()], ..Gateway::default() },
        models: vec![Model { name: "m".to_owned(), slots: 2 }, Model::default()],
        folder: Some("/x".into()),
    };
    let text = dump(&program).expect("TOML");
    assert_eq!(loaded(Some(&text), &[], &[]), Ok(program), "{text}");
}

#[test]
fn flags_are_keys_and_values() {
    let pair = |key: &str, value: &str| Ok((key.to_owned(), value.to_owned()));
    assert_eq!(parse_flag("gateway.listen=0.0.0.0:80"), pair("gateway.listen", "0.0.0.0:80"));
    assert_eq!(parse_flag("a=b=c"), pair("a", "b=c"));
    assert_eq!(parse_flag(" a ="), pair("a", ""));
    for wrong in ["", "a", "=b", " =b"] {
        assert!(parse_flag(wrong).is_err(), "{wrong:?}");
    }
}
