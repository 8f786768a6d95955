//! A file that is being written: beside its place, under a name of its own, with a note that says which content it is the
//! beginning of. It takes its place only when it is whole, right and on the disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use infera_types::ids::Digest;
use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::names::{PARTIAL, PARTIAL_NOTE};
use crate::pins::{GitDigest, Pin, Published};

/// How much is read at once for a digest.
const READ_BYTES: usize = 1 << 20;

/// Computes the digests by which a content may be known.
struct Hashing {
    sha256: Sha256,
    git: Option<Context>,
}

impl Hashing {
    fn new(pin: &Pin) -> Self {
        let git = matches!(pin.digest, Published::GitSha1(_)).then(|| {
            let mut git = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
            git.update(format!("blob {}\0", pin.bytes).as_bytes());
            git
        });
        Self { sha256: Sha256::new(), git }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.sha256.update(bytes);
        if let Some(git) = &mut self.git {
            git.update(bytes);
        }
    }

    fn finish(&self) -> Hashes {
        let git = self.git.clone().and_then(|git| git.finish().as_ref().try_into().ok());
        Hashes { sha256: Digest::from_bytes(self.sha256.clone().finalize().into()), git: git.map(GitDigest) }
    }
}

/// The digests of a content.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashes {
    pub(crate) sha256: Digest,
    git: Option<GitDigest>,
}

impl Hashes {
    /// Returns the digest of the kind that `published` is of.
    pub(crate) fn like(&self, published: &Published) -> Published {
        match (published, self.git) {
            (Published::GitSha1(_), Some(git)) => Published::GitSha1(git),
            _ => Published::Sha256(self.sha256),
        }
    }

    pub(crate) fn are(&self, published: &Published) -> bool {
        self.like(published) == *published
    }
}

/// Returns the length and digests of what `reader` gives, calling `read` with the length of each piece.
fn hash(mut reader: impl Read, hashing: &mut Hashing, mut read: impl FnMut(u64)) -> io::Result<u64> {
    let (mut piece, mut bytes) = (vec![0; READ_BYTES], 0);
    loop {
        let count = match reader.read(&mut piece) {
            Ok(0) => return Ok(bytes),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hashing.update(&piece[..count]);
        bytes += count as u64;
        read(count as u64);
    }
}

/// Returns the length and digests of a file, without following a link at its place. `read` is called with the length of
/// each piece.
pub(crate) fn hash_file(path: &Path, pin: &Pin, read: impl FnMut(u64)) -> io::Result<(u64, Hashes)> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let mut hashing = Hashing::new(pin);
    let bytes = hash(file, &mut hashing, read)?;
    Ok((bytes, hashing.finish()))
}

/// What a partial file is the beginning of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    #[serde(flatten)]
    pin: Pin,
    /// The source's tag for the content.
    tag: Option<String>,
}

/// A file that is being written.
pub(crate) struct Part {
    path: PathBuf,
    note_path: PathBuf,
    target: PathBuf,
    file: File,
    note: Note,
    length: u64,
    hashing: Hashing,
}

impl Part {
    /// Opens the partial file beside `target`, and keeps what is in it if that is the beginning of the pinned content.
    pub(crate) fn open(target: &Path, pin: Pin) -> io::Result<Self> {
        let beside = |ending: &str| {
            let mut name = target.file_name().unwrap_or_default().to_os_string();
            name.push(ending);
            target.with_file_name(name)
        };
        let (path, note_path) = (beside(PARTIAL), beside(PARTIAL_NOTE));
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).custom_flags(libc::O_NOFOLLOW);
        let file = options.open(&path)?;
        let noted = fs::read(&note_path).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok());
        let goes_on = noted.filter(|note| note.pin == pin);
        let note = Note { pin, tag: goes_on.as_ref().and_then(|note| note.tag.clone()) };
        let target = target.to_owned();
        let mut part = Self { path, note_path, target, file, note, length: 0, hashing: Hashing::new(&pin) };
        if goes_on.is_some() && part.file.metadata()?.len() <= pin.bytes {
            part.length = hash(&part.file, &mut part.hashing, |_| {})?;
            return Ok(part);
        }
        part.begin(None)
    }

    /// Forgets what is there, and begins with a content of this tag.
    pub(crate) fn begin(mut self, tag: Option<String>) -> io::Result<Self> {
        self.file.set_len(0)?;
        (self.length, self.hashing) = (0, Hashing::new(&self.note.pin));
        self.note.tag = tag;
        write_whole(&self.note_path, &serde_json::to_vec(&self.note)?)?;
        Ok(self)
    }

    /// Returns how many of the file's bytes are there.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Returns the source's tag for what is there.
    pub(crate) fn tag(&self) -> Option<&str> {
        self.note.tag.as_deref()
    }

    /// Adds bytes.
    pub(crate) fn append(mut self, bytes: &[u8]) -> io::Result<Self> {
        self.file.write_all(bytes)?;
        self.hashing.update(bytes);
        self.length += bytes.len() as u64;
        Ok(self)
    }

    /// Returns the digests of what is there.
    pub(crate) fn hashes(&self) -> Hashes {
        self.hashing.finish()
    }

    /// Puts the file in its place, on the disk.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        sync_folder_of(&self.target)?;
        // A note without its file is of no use, and does no harm.
        let _ = fs::remove_file(&self.note_path);
        Ok(())
    }

    /// Removes the file.
    pub(crate) fn discard(self) -> io::Result<()> {
        fs::remove_file(&self.path)?;
        fs::remove_file(&self.note_path)
    }
}

/// Writes a small file so that the whole old one or the whole new one is there.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".new");
    let scratch = path.with_file_name(name);
    // A link there would be written through.
    if let Err(error) = fs::remove_file(&scratch)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = OpenOptions::new().write(true).create_new(true).open(&scratch)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&scratch, path)?;
    sync_folder_of(path)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(content: &[u8]) -> Pin {
        Pin { bytes: content.len() as u64, digest: Published::Sha256(Digest::of(content)) }
    }

    #[test]
    fn gits_digest_is_gits() {
        // `printf 'hello\n' | git hash-object --stdin`
        let digest = GitDigest::parse("ce013625030ba8dba906f756967f9e9ca394464a").expect("a digest");
        let pin = Pin { bytes: 6, digest: Published::GitSha1(digest) };
        let mut hashing = Hashing::new(&pin);
        hashing.update(b"hello\n");
        assert!(hashing.finish().are(&pin.digest));
        assert_eq!(hashing.finish().sha256, Digest::of(b"hello\n"));
        assert!(!Hashing::new(&pin).finish().are(&pin.digest));
    }

    #[test]
    fn a_file_goes_on_where_it_was_and_only_if_it_is_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("model.onnx");
        let wanted = pin(b"0123456789");
        let part = Part::open(&target, wanted).expect("new");
        assert_eq!((part.length(), part.tag()), (0, None));
        let part = part.begin(Some("\"t\"".to_owned())).expect("begun");
        drop(part.append(b"01234").expect("written"));
        let part = Part::open(&target, wanted).expect("again");
        assert_eq!((part.length(), part.tag()), (5, Some("\"t\"")));
        drop(part);
        let other = Part::open(&target, pin(b"9876543210")).expect("of another content");
        assert_eq!((other.length(), other.tag()), (0, None), "what was there is of no use");
        let part = other.append(b"9876543210").expect("written");
        assert!(part.hashes().are(&pin(b"9876543210").digest));
        part.finish().expect("in its place");
        assert_eq!(fs::read(&target).expect("there"), b"9876543210");
        let names: Vec<_> =
            fs::read_dir(folder.path()).expect("a folder").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(names, ["model.onnx"]);
    }

    #[test]
    fn a_note_that_is_gone_or_a_part_that_is_too_long_begins_again() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("f");
        let wanted = pin(b"0123456789");
        for break_it in [
            &|folder: &Path| fs::remove_file(folder.join("f.part.json")).expect("there"),
            &|folder: &Path| fs::write(folder.join("f.part"), [0; 11]).expect("there"),
            &|folder: &Path| fs::write(folder.join("f.part.json"), "{").expect("there"),
        ] as [&dyn Fn(&Path); 3]
        {
            drop(Part::open(&target, wanted).and_then(|part| part.append(b"0123")).expect("begun"));
            break_it(folder.path());
            let part = Part::open(&target, wanted).expect("again");
            assert_eq!(part.length(), 0);
            part.discard().expect("removed");
        }
    }

    #[test]
    fn links_are_not_written_through() {
        let folder = tempfile::tempdir().expect("a folder");
        let outside = folder.path().join("outside");
        fs::write(&outside, "mine").expect("written");
        let target = folder.path().join("f");
        std::os::unix::fs::symlink(&outside, folder.path().join("f.part")).expect("a link");
        assert!(Part::open(&target, pin(b"01")).is_err());
        assert!(hash_file(&folder.path().join("f.part"), &pin(b""), |_| {}).is_err());
        std::os::unix::fs::symlink(&outside, folder.path().join("note.new")).expect("a link");
        write_whole(&folder.path().join("note"), b"x").expect("written");
        assert_eq!(fs::read(&outside).expect("there"), b"mine");
    }
}
