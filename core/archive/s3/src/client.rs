//! Connects to the store: its settings, and the SDK's client that is made from them. The calls to the store are made
//! elsewhere.

use std::path::PathBuf;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore};
use serde::{Deserialize, Serialize};

use infera_archive::ArchiveError;
use infera_types::secret::Secret;

/// How often one call is tried, the first try included; the SDK waits between tries with jitter. The archiver retries
/// later anyway.
const ATTEMPTS_MAX: u32 = 3;

/// How long an idle connection is kept: less than the idle time after which servers and the devices between hang up
/// (a minute or more), so that a call after a pause does not meet a dead connection.
const IDLE: Duration = Duration::from_secs(20);

/// How many connections are kept between calls; a verifier writes one segment at a time and reads few.
const IDLE_CONNECTIONS_MAX: usize = 8;

/// The store's address, our credentials there, and how long a call may take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct S3Config {
    /// `https://host:port`, or `http://` in a network of one's own. Objects are addressed as `/bucket/key`.
    pub endpoint: String,
    /// The region that the signature names. For stores that have no regions, keep the default.
    pub region: String,
    /// The bucket. It is created if it does not exist and the credentials allow that.
    pub bucket: String,
    /// The public half of the credentials.
    pub access_key_id: String,
    /// The secret half of the credentials.
    pub secret_access_key: Secret,
    /// A PEM file of CAs that may vouch for an `https://` store, beside the system's; none: the system's alone.
    pub ca_file: Option<PathBuf>,
    /// How long connecting may take per try, in milliseconds.
    pub connect_ms: u64,
    /// How long the head of the answer may take per try, from the request with its body, in milliseconds.
    pub read_ms: u64,
    /// How long one try may take, in milliseconds.
    pub attempt_ms: u64,
    /// How long all tries and the waits between them may take, in milliseconds; also how long an answer's body may
    /// take.
    pub operation_ms: u64,
}

impl Default for S3Config {
    fn default() -> Self {
        Self {
            endpoint: "http://127.0.0.1:9000".to_owned(), // where MinIO listens
            region: DEFAULT_REGION.to_owned(),
            bucket: "infera".to_owned(),
            access_key_id: String::new(),
            secret_access_key: Secret::default(),
            ca_file: None,
            // The SDK limits only connecting, and a half-open connection would hold the archiver for ever. A segment
            // of 1,024 records is a few MiB: 15 s is enough at 5 Mbit/s.
            connect_ms: 2_000,
            read_ms: 15_000,
            attempt_ms: 30_000,
            operation_ms: 120_000,
        }
    }
}

/// The region for stores that have none, and the one whose buckets are created without naming it.
pub(super) const DEFAULT_REGION: &str = "us-east-1";

/// Makes the SDK's client. Nothing is sent yet.
pub(super) fn client(config: &S3Config) -> Result<Client, ArchiveError> {
    let timeouts = TimeoutConfig::builder()
        .connect_timeout(Duration::from_millis(config.connect_ms))
        .read_timeout(Duration::from_millis(config.read_ms))
        .operation_attempt_timeout(Duration::from_millis(config.attempt_ms))
        .operation_timeout(Duration::from_millis(config.operation_ms))
        .build();
    let credentials = Credentials::new(
        &config.access_key_id,
        config.secret_access_key.expose(),
        None,
        None,
        "infera configuration",
    );
    let settings = aws_sdk_s3::Config::builder()
        // A dated version: the newest one would change behaviour with an update of the crate.
        .behavior_version(BehaviorVersion::v2026_01_12())
        .http_client(http_client(config)?)
        .endpoint_url(&config.endpoint)
        .region(Region::new(config.region.clone()))
        .credentials_provider(credentials)
        // Buckets as host names would need a domain, which self-hosted stores don't have.
        .force_path_style(true)
        // The trailers that the SDK would add break stores other than Amazon's; the ledger's SHA-256 guards records.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .timeout_config(timeouts)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        // It aborts slow transfers that still make progress; every transfer has a limit of its own.
        .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
        .build();
    Ok(Client::from_conf(settings))
}

fn http_client(config: &S3Config) -> Result<SharedHttpClient, ArchiveError> {
    let builder = Builder::new().pool_idle_timeout(IDLE).pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
    if config.endpoint.starts_with("http://") {
        return Ok(builder.build_http());
    }
    if !config.endpoint.starts_with("https://") {
        let endpoint = &config.endpoint;
        return Err(ArchiveError::Refused(format!(
            "endpoint {endpoint:?} is not an http:// or https:// address"
        )));
    }
    let trusted = match &config.ca_file {
        Some(path) => {
            // The client panics if the file is not PEM.
            let pem = infera_tls::authorities_pem(path);
            let pem = pem.map_err(|error| ArchiveError::Refused(error.to_string()))?;
            TrustStore::default().with_pem_certificate(pem)
        }
        None => TrustStore::default(),
    };
    let context = TlsContext::builder().with_trust_store(trusted).build();
    let context = context.map_err(|error| ArchiveError::Refused(format!("TLS: {error}")))?;
    // `ring` instead of the default `aws-lc`, which needs CMake and compiles minutes of C.
    Ok(builder.tls_provider(Provider::rustls(CryptoMode::Ring)).tls_context(context).build_https())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn what_cannot_be_an_endpoint_or_an_authority_is_said_so() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("ca.crt");
        let config = |endpoint: &str, ca_file: Option<&Path>| S3Config {
            endpoint: endpoint.to_owned(),
            ca_file: ca_file.map(Path::to_owned),
            ..S3Config::default()
        };
        let absent = folder.path().join("absent.crt");
        for config in [config("127.0.0.1:9000", None), config("https://127.0.0.1:9000", Some(&absent))] {
            assert!(matches!(client(&config), Err(ArchiveError::Refused(_))), "{config:?}");
        }
        let not_certificates = [
            "",
            "words",
            "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ];
        for text in not_certificates {
            std::fs::write(&file, text).expect("a file");
            let refused = client(&config("https://127.0.0.1:9000", Some(&file)));
            assert!(matches!(refused, Err(ArchiveError::Refused(_))), "{text:?}");
        }
        assert!(client(&config("http://127.0.0.1:9000", None)).is_ok());
    }

    #[test]
    fn a_configuration_never_shows_its_secret() {
        let config = S3Config { secret_access_key: Secret::new("do-not-tell"), ..S3Config::default() };
        assert!(!format!("{config:?}").contains("do-not-tell"));
        assert!(!serde_json::to_string(&config).expect("JSON").contains("do-not-tell"));
    }
}
