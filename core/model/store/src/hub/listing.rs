//! Reads the listing of a repository's files, page by page, within bounds.

use std::collections::BTreeMap;

use http_body_util::{BodyExt as _, Limited};
use hyper::header::{HeaderMap, LINK};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;
use url::Url;

use super::answers::{About, Place, refusal};
use super::client::Client;
use crate::names::{check_path, is_commit, shown};
use crate::pins::{GitDigest, Pin, Published};
use crate::source::{Listing, SourceError};

/// The pages of one listing; the Hub's have up to 1,000 entries each.
const PAGES_MAX: usize = 20;
/// The entries of one listing. Repositories of models have some dozens.
const ENTRIES_MAX: usize = 10_000;
/// The most bytes of one page: 1,000 entries of some 300 bytes, ten times.
const PAGE_MAX_BYTES: usize = 4 << 20;

/// What the Hub says of a revision.
#[derive(Deserialize)]
struct Revision {
    sha: String,
}

/// One entry of the listing.
#[derive(Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    oid: String,
    lfs: Option<Large>,
}

/// What the listing says of a file that Git doesn't hold itself.
#[derive(Deserialize)]
struct Large {
    oid: String,
    size: u64,
}

/// Reads the files of a revision, which becomes a commit first, so that all pages and files are of one.
pub(super) async fn read(client: &Client, place: &Place, revision: &str) -> Result<Listing, SourceError> {
    let about = About::Listing { revision };
    let words = |last: &'static [&'static str]| {
        ["api", "models"].into_iter().chain(place.repository.split('/')).chain(last.iter().copied())
    };
    let commit = if is_commit(revision) {
        revision.to_owned()
    } else {
        let url = client.url(words(&["revision"]).chain([revision]));
        let (Revision { sha }, _) = page(client, url, place, &about).await?;
        if !is_commit(&sha) {
            return Err(
                place.refused(format!("it says that {revision} is at {:?}, which is no commit", shown(&sha)))
            );
        }
        sha
    };
    let mut url = client.url(words(&["tree"]).chain([commit.as_str()]));
    url.set_query(Some("recursive=true"));
    let mut files = BTreeMap::new();
    for _ in 0..PAGES_MAX {
        let (entries, head): (Vec<Entry>, HeaderMap) = page(client, url.clone(), place, &about).await?;
        for entry in entries {
            let Some((path, pin)) = file(entry).map_err(|problem| place.refused(problem))? else { continue };
            if files.insert(path.clone(), pin).is_some() {
                return Err(place.refused(format!("its listing has {path} twice")));
            }
        }
        if files.len() > ENTRIES_MAX {
            return Err(place.refused(format!("its listing has more than {ENTRIES_MAX} files")));
        }
        match next(&url, &head) {
            None => return Ok(Listing { revision: commit, files }),
            Some(other) if !client.is_own(&other) => {
                return Err(place.refused(format!(
                    "its listing goes on at another host, {:?}",
                    other.host_str().unwrap_or_default()
                )));
            }
            Some(more) => url = more,
        }
    }
    Err(place.refused(format!("its listing has more than {PAGES_MAX} pages")))
}

/// Reads one page.
async fn page<T: DeserializeOwned>(
    client: &Client,
    url: Url,
    place: &Place,
    about: &About<'_>,
) -> Result<(T, HeaderMap), SourceError> {
    let answer = client.get(url, None, place).await?;
    if !answer.status().is_success() {
        return Err(refusal(answer, place, about).await);
    }
    let (head, body) = answer.into_parts();
    let body = timeout(client.waits.stall, Limited::new(body, PAGE_MAX_BYTES).collect()).await;
    let body = body.map_err(|_| SourceError::away(format!("{}: the listing stalls", place.name)))?;
    let body = body.map_err(|error| {
        if error.is::<http_body_util::LengthLimitError>() {
            return place.refused(format!("a page of its listing has more than {PAGE_MAX_BYTES} bytes"));
        }
        SourceError::away(format!("{}: the listing was cut: {error}", place.name))
    })?;
    let read = serde_json::from_slice(&body.to_bytes());
    let read = read.map_err(|error| {
        place.refused(format!("it sends something that is no listing ({error}); is HF_ENDPOINT a Hub?"))
    })?;
    Ok((read, head.headers))
}

/// Returns an entry's path and pin; none for a folder. The error's text says what is wrong with it.
fn file(entry: Entry) -> Result<Option<(String, Pin)>, String> {
    if entry.kind != "file" {
        return Ok(None);
    }
    check_path(&entry.path).map_err(|error| format!("its listing can't be trusted: {error}"))?;
    let digest = match &entry.lfs {
        Some(large) => {
            let oid = large.oid.strip_prefix("sha256:").unwrap_or(&large.oid);
            oid.parse().ok().map(|digest| (large.size, Published::Sha256(digest)))
        }
        None => GitDigest::parse(&entry.oid).map(|digest| (entry.size, Published::GitSha1(digest))),
    };
    let (bytes, digest) = digest.ok_or_else(|| format!("its listing has no digest of {}", entry.path))?;
    Ok(Some((entry.path, Pin { bytes, digest })))
}

/// Returns the address of the next page.
fn next(url: &Url, head: &HeaderMap) -> Option<Url> {
    let links = head.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let mut links = links.flat_map(|links| links.split(','));
    links.find_map(|link| {
        let (address, about) = link.trim().strip_prefix('<')?.split_once('>')?;
        let is_next = about.split(';').any(|part| matches!(part.trim(), "rel=\"next\"" | "rel=next"));
        if is_next { url.join(address).ok() } else { None }
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    #[test]
    fn entries_are_files_with_digests_or_refused() {
        let read = |text: &str| file(serde_json::from_str(text).expect("an entry"));
        let small = format!(r#"{{"type":"file","path":"config.json","size":5,"oid":"{}"}}"#, "ab".repeat(20));
        let large = format!(
            r#"{{"type":"file","path":"onnx/model.onnx","size":134,"oid":"{}","lfs":{{"oid":"{}","size":9,"pointerSize":134}},"xetHash":"x"}}"#,
            "cd".repeat(20),
            "ef".repeat(32)
        );
        let (path, pin) = read(&small).expect("sound").expect("a file");
        assert_eq!((path.as_str(), pin.bytes), ("config.json", 5));
        assert!(matches!(pin.digest, Published::GitSha1(_)));
        let (_, pin) = read(&large).expect("sound").expect("a file");
        assert!(pin.bytes == 9 && matches!(pin.digest, Published::Sha256(_)));
        assert!(read(&large.replace("\"oid\":\"ef", "\"oid\":\"sha256:ef")).is_ok());
        assert_eq!(read(r#"{"type":"directory","path":"onnx","oid":"x"}"#), Ok(None));
        for evil in [
            small.replace("config.json", "../config.json"),
            small.replace("config.json", "/etc/passwd"),
            small.replace("abab", "ab"),
            large.replace("efef", "ef"),
        ] {
            assert!(read(&evil).is_err(), "{evil}");
        }
    }

    #[test]
    fn the_next_page_is_the_one_called_next() {
        let url: Url = "https://hub/api/models/o/m/tree/c?recursive=true".parse().expect("an address");
        let mut head = HeaderMap::new();
        assert_eq!(next(&url, &head), None);
        let links = r#"<https://hub/a>; rel="prev", </b?cursor=x>; rel="next""#;
        head.insert(LINK, HeaderValue::from_static(links));
        assert_eq!(next(&url, &head).expect("a page").as_str(), "https://hub/b?cursor=x");
    }
}
