//! Fetching a model: what its listing says is pinned, each file comes whole and right or not at all, and what was begun goes
//! on where it was.

mod download;
mod way;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use infera_model::folder::GraphFacts;
use infera_types::time::Timestamp;
use tokio::task::spawn_blocking;

use self::download::Download;
use self::way::pause;
pub use self::way::{Event, FetchError, Report, Way};
use crate::folder::{FolderProblem, LockedFolder, Store, Verified};
use crate::names::is_commit;
use crate::needs;
use crate::part::hash_file;
use crate::pins::{Pin, Pins, Published};
use crate::source::Listing;
use crate::space::free_bytes;

/// What is fetched.
#[derive(Clone, Debug)]
pub struct Order {
    /// The model's name, which its folder gets.
    pub name: String,
    /// The repository.
    pub repository: String,
    /// The variant.
    pub variant: String,
    /// The revision; the pinned one, or the source's usual one, if none is named.
    pub revision: Option<String>,
    /// Pins that somebody else made: the files must be these.
    pub pins: Option<Pins>,
}

/// A model that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Its folder.
    pub folder: PathBuf,
    /// Its pins.
    pub pins: Pins,
    /// Whether this fetch made the pins, by what the source said.
    pub is_pinned_now: bool,
}

/// What is left free for others.
const SPARE_BYTES: u64 = 64 << 20;

/// Fetches what an order names. What is there already and right is not fetched again; what is pinned stays pinned.
///
/// # Errors
/// [`FetchError`]. What has come is kept, and the same call goes on there.
pub async fn fetch(store: &Store, way: Way<'_>, order: &Order) -> Result<Fetched, FetchError> {
    let locked = store.folder(&order.name)?.lock()?;
    let known = pinned(&locked, order)?;
    let is_pinned_now = known.is_none();
    let is_complete = known.as_ref().is_some_and(|pins| pins.variants.contains(&order.variant));
    let (mut pins, files) = match known {
        Some(pins) if is_complete => (pins.clone(), pins.files),
        known => listed(way, order, known).await?,
    };
    let needs = needs::of_variant(&files, &order.variant)?;
    let first: Vec<&String> = needs.settings.iter().chain([&needs.onnx]).collect();
    pin(&mut pins, &files, first.iter().copied());
    locked.keep_pins(&pins)?;
    // By their names, because the graph that names its weights isn't there yet.
    check_room(&locked, &files, first.iter().copied().chain(&needs.beside))?;
    for path in first {
        get(way, &locked, &mut pins, path).await?;
    }
    let facts = read_graph(&locked, &needs.onnx).await?;
    let data = needs::data_paths(&needs.onnx, &facts)?;
    if let Some(missing) = data.iter().find(|path| !files.contains_key(*path)) {
        return Err(needs::missing_data(&needs.onnx, missing).into());
    }
    pin(&mut pins, &files, data.iter());
    check_room(&locked, &files, data.iter())?;
    for path in &data {
        get(way, &locked, &mut pins, path).await?;
    }
    pins.completes(&order.variant);
    locked.keep_pins(&pins)?;
    locked.keep_verified(Verified { at_ms: Timestamp::now() })?;
    Ok(Fetched { folder: locked.folder().path().to_owned(), pins, is_pinned_now })
}

type Files = BTreeMap<String, Pin>;

/// Adds pins of `paths`; what is pinned stays.
fn pin<'p>(pins: &mut Pins, files: &Files, paths: impl Iterator<Item = &'p String>) {
    for path in paths {
        if let Some(pin) = files.get(path) {
            pins.files.entry(path.clone()).or_insert(*pin);
        }
    }
}

/// Returns the pins that hold for the order, if there are any: the folder's, and those that it came with.
fn pinned(locked: &LockedFolder, order: &Order) -> Result<Option<Pins>, FetchError> {
    let otherwise = |problem: String| FetchError::PinnedOtherwise { name: order.name.clone(), problem };
    let (own, given) = (locked.folder().pins()?, order.pins.clone());
    for pins in own.iter().chain(&given) {
        if pins.repository != order.repository {
            return Err(otherwise(format!(
                "it is pinned to {}, and {} is wanted",
                pins.repository, order.repository
            )));
        }
        if let Some(revision) =
            order.revision.as_ref().filter(|revision| is_commit(revision) && **revision != pins.revision)
        {
            return Err(otherwise(format!(
                "it is pinned to the commit {}, and {revision} is wanted",
                pins.revision
            )));
        }
    }
    match (own, given) {
        (Some(mut own), Some(given)) => {
            if own.revision != given.revision {
                return Err(otherwise(format!(
                    "it is pinned to {}, and {} is given",
                    own.revision, given.revision
                )));
            }
            let listing = Listing { revision: given.revision, files: given.files };
            check_same(&own, &listing).map_err(otherwise)?;
            for variant in &given.variants {
                own.completes(variant);
            }
            own.files.extend(listing.files);
            Ok(Some(own))
        }
        (own, given) => Ok(own.or(given)),
    }
}

/// Checks that nothing is listed otherwise than it is pinned; the error's text names what is.
fn check_same(pins: &Pins, listing: &Listing) -> Result<(), String> {
    for (path, listed) in &listing.files {
        let Some(pin) = pins.files.get(path) else { continue };
        let differs = match (pin.digest, listed.digest) {
            (Published::Sha256(one), Published::Sha256(other)) => one != other,
            (Published::GitSha1(one), Published::GitSha1(other)) => one != other,
            // Digests of two kinds can't be compared; the content's will be.
            _ => false,
        };
        if differs || pin.bytes != listed.bytes {
            return Err(format!(
                "{path} is pinned by {}, and {} is said of it now",
                pin.digest, listed.digest
            ));
        }
    }
    Ok(())
}

/// Asks the source for its listing. Returns the pins, which may be new, and all files that may be had, pinned ones as pinned.
async fn listed(way: Way<'_>, order: &Order, known: Option<Pins>) -> Result<(Pins, Files), FetchError> {
    let revision = known.as_ref().map(|pins| pins.revision.as_str()).or(order.revision.as_deref());
    let mut failures = 0;
    let listing = loop {
        match way.source.list(revision).await {
            Ok(listing) => break listing,
            Err(error) => failures = pause(way, "the listing", error, failures).await?,
        }
    };
    let otherwise = |problem: String| FetchError::PinnedOtherwise { name: order.name.clone(), problem };
    let pins = known.unwrap_or_else(|| Pins::new(&order.name, &order.repository, &listing.revision));
    if pins.revision != listing.revision {
        return Err(otherwise(format!(
            "{} is pinned, and the source lists {}",
            pins.revision, listing.revision
        )));
    }
    check_same(&pins, &listing).map_err(otherwise)?;
    let mut files = listing.files;
    files.extend(pins.files.clone());
    Ok((pins, files))
}

/// Has one pinned file in its place, and its SHA-256 among the pins.
async fn get(way: Way<'_>, locked: &LockedFolder, pins: &mut Pins, path: &str) -> Result<(), FetchError> {
    let Some(pin) = pins.files.get(path).copied() else { return Ok(()) };
    let target = locked.place_of(path)?;
    let (place, whole) = (target.clone(), pin);
    let found = spawn_blocking(move || hash_file(&place, &whole, |_| {})).await?;
    let found = found.ok().filter(|(bytes, hashes)| *bytes == pin.bytes && hashes.are(&pin.digest));
    let was_there = found.is_some();
    let sha256 = match found {
        Some((_, hashes)) => hashes.sha256,
        None => Download { way, revision: &pins.revision, path, pin }.run(target).await?,
    };
    (way.report)(Event::Ends { path, was_there });
    let digest = Published::Sha256(sha256);
    if pin.digest != digest {
        pins.files.insert(path.to_owned(), Pin { digest, ..pin });
        locked.keep_pins(pins)?;
    }
    Ok(())
}

/// Checks that the disk has room for what hasn't come yet of these files.
fn check_room<'p>(
    locked: &LockedFolder,
    files: &Files,
    paths: impl Iterator<Item = &'p String>,
) -> Result<(), FetchError> {
    let folder = locked.folder().path();
    let there = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    let mut needed = 0_u64;
    for path in paths {
        let bytes = files.get(path).map_or(0, |pin| pin.bytes);
        let part = folder.join(format!("{path}{}", crate::names::PARTIAL));
        let come = there(&folder.join(path)).max(there(&part));
        needed = needed.saturating_add(bytes.saturating_sub(come));
    }
    let free = free_bytes(folder).map_err(|error| FolderProblem::of(folder, error))?;
    if needed > 0 && needed.saturating_add(SPARE_BYTES) > free {
        return Err(FetchError::NoRoom { path: folder.to_owned(), needed, free });
    }
    Ok(())
}

async fn read_graph(locked: &LockedFolder, onnx: &str) -> Result<GraphFacts, FetchError> {
    let path = locked.place_of(onnx)?;
    let read = spawn_blocking(move || {
        let graph = std::fs::read(&path).map_err(|error| FolderProblem::of(&path, error))?;
        Ok::<_, FolderProblem>(GraphFacts::read(&graph))
    });
    read.await??.map_err(|_| FetchError::Graph(onnx.to_owned()))
}
