//! The object store that segments go to.

use infera_bench::Fault;

use crate::settings::told;

/// The store, as `http://key:secret@address/bucket` names it.
pub(crate) struct Store {
    pub(crate) address: String,
    pub(crate) bucket: String,
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: String,
}

impl Store {
    /// Returns the store of the environment.
    pub(crate) fn told() -> Result<Self, Fault> {
        let url = told("TEST_S3_URL")?;
        let parts = || {
            let (credentials, place) = url.strip_prefix("http://")?.split_once('@')?;
            let ((id, secret), (address, bucket)) = (credentials.split_once(':')?, place.split_once('/')?);
            Some([address, bucket, id, secret].map(str::to_owned))
        };
        let [address, bucket, access_key_id, secret_access_key] =
            parts().ok_or("TEST_S3_URL is not of the form http://key:secret@host:port/bucket")?;
        Ok(Self { address, bucket, access_key_id, secret_access_key })
    }
}
