//! Configuration of every program: defaults < its TOML file < environment (`INFERA_…`) < flags. Unknown keys are
//! refused, and all mistakes are listed at once, each with its key and its source.
//!
//! A program's configuration is a plain serde struct with `#[serde(default, deny_unknown_fields)]` on every level;
//! the program decides what its values mean. This is the only module that reads the environment.
//!
//! * `INFERA_GATEWAY__LISTEN=…` is the key `gateway.listen`: two underscores stand for a dot.
//! * A value from the environment or a flag is parsed as TOML where the key's type requires it (`8080`, `true`,
//!   `["a", "b"]`), and taken literally, quotes included, where the key is a text.
//! * `INFERA_GATEWAY__SECRET_FILE=/run/secrets/x` sets the key `gateway.secret` to that file's content, unless a key
//!   `gateway.secret_file` exists.
//! * The variables that Kubernetes sets in pods for its services (`INFERA_PORT=tcp://…`, `INFERA_SERVICE_HOST=…`) are
//!   ignored, see [`Sources::service_links`].

mod layers;
mod mistakes;
mod service_link;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;
use toml::{Table, Value};

pub use mistakes::{ConfigErrors, Mistake};

use layers::{Layer, Layers, Refusal, index_word};

/// The prefix of all our environment variables.
const PREFIX: &str = "INFERA_";

/// Variables that clients and logging use; they are not configuration keys.
const RESERVED: [&str; 4] = ["INFERA_URL", "INFERA_API_KEY", "INFERA_MODEL", LOG_VARIABLE];

/// The variable that overrides the log filter of every program.
const LOG_VARIABLE: &str = "INFERA_LOG";

/// The sources of a configuration besides the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The file, which must exist; none if there is no file.
    pub file: Option<PathBuf>,
    /// The environment variables. Those that do not begin with `INFERA_` are ignored.
    pub environment: Vec<(String, String)>,
    /// Dotted keys with their values, such as `gateway.listen` and `127.0.0.1:8080`. Later ones win.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// Returns this process's sources. Without a file, `default_file` in the working directory is used if it exists.
    #[must_use]
    pub fn from_process(default_file: &str, file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let default = || Some(PathBuf::from(default_file)).filter(|path| path.exists());
        // A variable that is not Unicode appears with replacement characters in the mistake that it causes.
        let environment = std::env::vars_os()
            .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
            .filter(|(name, _)| name.starts_with(PREFIX))
            .collect();
        Self { file: file.or_else(default), environment, flags }
    }

    /// Returns the variables that Kubernetes sets in every pod for a service whose name begins with `infera`. They
    /// are not settings; [`load`] ignores them, and the program reports that.
    pub fn service_links(&self) -> impl Iterator<Item = &str> {
        let names = self.environment.iter().filter(|(name, value)| service_link::is_one(name, value));
        names.map(|(name, _)| name.as_str())
    }

    /// Returns the value of `INFERA_LOG`, if it is set.
    #[must_use]
    pub fn log_filter(&self) -> Option<&str> {
        self.environment.iter().find(|(name, _)| name == LOG_VARIABLE).map(|(_, value)| value.as_str())
    }
}

/// Parses a flag of the form `key=value`.
///
/// # Errors
/// One sentence for the person who typed it.
pub fn parse_flag(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form key=value")),
    }
}

/// Loads a configuration.
///
/// # Errors
/// Every mistake that can be found: each unknown key and each value of a wrong type, of all sources. Of a list only
/// the first wrong element is reported.
pub fn load<T: DeserializeOwned>(sources: &Sources) -> Result<T, ConfigErrors> {
    let mut layers = Layers::default();
    if let Some(path) = &sources.file {
        add_file(&mut layers, path);
    }
    for (name, value) in &sources.environment {
        let is_key = |_: &&str| !RESERVED.contains(&name.as_str()) && !service_link::is_one(name, value);
        let Some(key) = name.strip_prefix(PREFIX).filter(is_key) else { continue };
        let path: Vec<String> = key.to_ascii_lowercase().split("__").map(str::to_owned).collect();
        layers.add_text(Layer::Environment, format!("environment variable {name}"), &path, value);
    }
    for (key, value) in &sources.flags {
        let path: Vec<String> = key.split('.').map(str::to_owned).collect();
        layers.add_text(Layer::Flags, format!("flag {key}"), &path, value);
    }
    read_all(layers)
}

fn add_file(layers: &mut Layers, path: &Path) {
    let source = path.display().to_string();
    let table = std::fs::read_to_string(path)
        .map_err(|error| format!("can't be read: {error}"))
        .and_then(|text| text.parse::<Table>().map_err(|error| format!("isn't TOML: {error}")));
    match table {
        Ok(table) => layers.add_table(&source, table),
        Err(problem) => layers.mistake(source, "", problem),
    }
}

/// Deserializes the layers as `T`. serde stops at the first mistake, so each mistake is recorded, its value is
/// removed (the default takes its place), and the rest is read again.
fn read_all<T: DeserializeOwned>(mut layers: Layers) -> Result<T, ConfigErrors> {
    loop {
        let error = match serde_path_to_error::deserialize(Value::Table(layers.table.clone())) {
            Ok(config) => return layers.finish(config),
            Err(error) => error,
        };
        let path: Vec<String> = error.path().iter().map_while(word).collect();
        if layers.refused(&path, error.inner().message()) == Refusal::Final {
            return Err(layers.into_errors());
        }
    }
}

fn word(segment: &Segment) -> Option<String> {
    match segment {
        Segment::Map { key } | Segment::Enum { variant: key } => Some(key.clone()),
        Segment::Seq { index } => Some(index_word(*index)),
        Segment::Unknown => None,
    }
}

/// Returns the configuration in effect as TOML that [`load`] can read, except for secrets, which are not shown.
///
/// # Errors
/// A value that TOML cannot represent, such as an integer over 2^63 - 1, which is our fault.
pub fn dump<T: Serialize>(config: &T) -> Result<String, ConfigErrors> {
    toml::to_string_pretty(config).map_err(|error| ConfigErrors {
        mistakes: vec![Mistake {
            source: "the configuration in effect".to_owned(),
            key: String::new(),
            problem: error.to_string(),
        }],
    })
}
