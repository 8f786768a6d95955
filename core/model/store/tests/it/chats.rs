//! Text sides are found by their digest, wherever they lie.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use infera_archive::local::LocalArchive;
use infera_model::chat::ChatModel;
use infera_model::chat_source::ChatSource as _;
use infera_model::folder::{CONFIG, TOKENIZER, TOKENIZER_CONFIG};
use infera_model_store::archived::publish;
use infera_model_store::chats::ChatFinder;
use infera_model_store::folder::Store;
use infera_model_store::pins::{Pin, Pins, Published};
use infera_model_store::source::Waits;
use infera_types::ids::{Digest, ModelName};

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/infera-tiny")
}

/// Copies the bundled model's text side into a folder, with a word changed in its template.
fn copy(to: &Path, word: &str) -> Digest {
    fs::create_dir_all(to).expect("a folder");
    for name in [CONFIG, TOKENIZER, TOKENIZER_CONFIG, "generation_config.json", "chat_template.jinja"] {
        if let Ok(content) = fs::read(tiny().join(name)) {
            fs::write(to.join(name), content).expect("copied");
        }
    }
    let template = to.join("chat_template.jinja");
    let text = fs::read_to_string(&template).unwrap_or_else(|_| "{{ messages[0].content }}".to_owned());
    fs::write(template, format!("{{# {word} #}}{text}")).expect("changed");
    ChatModel::load(to).expect("a text side").tokenizer_digest()
}

#[tokio::test]
async fn a_text_side_is_found_in_whatever_folder_it_lies() {
    let models = tempfile::tempdir().expect("a folder");
    let apart = tempfile::tempdir().expect("a folder");
    let finder = ChatFinder::new(vec![apart.path().to_owned()], Store::new(models.path()));
    let find = async |digest| finder.find(&ModelName::new("mine"), digest).await;
    let unknown = Digest::of(b"never there");
    assert!(matches!(find(unknown).await, Ok(None)));
    let one = copy(&models.path().join("one"), "one");
    let other = copy(&models.path().join("mine"), "other");
    let third = copy(apart.path(), "third");
    for digest in [one, other, third, one] {
        let found = find(digest).await.expect("searched").expect("found");
        assert_eq!(found.tokenizer_digest(), digest);
    }
    // What changed is seen, though its folder was read before.
    let changed = copy(&models.path().join("one"), "a longer word");
    assert_ne!(changed, one);
    assert!(matches!(find(one).await, Ok(None)));
    assert_eq!(find(changed).await.expect("searched").expect("found").tokenizer_digest(), changed);
    // A folder that can't be used keeps no other from being found, and is named where it should have had it.
    fs::write(models.path().join("one").join(CONFIG), "{").expect("damaged");
    assert!(find(other).await.expect("searched").is_some());
    let error = find(changed).await.err().expect("damaged");
    assert!(error.to_string().contains("config.json"), "{error}");
}

#[tokio::test]
async fn a_text_side_comes_from_the_archive_where_no_folder_has_it() {
    let (models, data) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let source = models.path().join("source");
    let digest = copy(&source, "archived");
    let mut pins = Pins::new("mine", "maker/Mine", "main");
    for entry in fs::read_dir(&source).expect("a folder").flatten() {
        let content = fs::read(entry.path()).expect("a file");
        let pin = Pin { bytes: content.len() as u64, digest: Published::Sha256(Digest::of(&content)) };
        pins.files.insert(entry.file_name().to_string_lossy().into_owned(), pin);
    }
    let archive = LocalArchive::open(data.path().join("archive")).expect("an archive");
    let empty = tempfile::tempdir().expect("a folder");
    let finder = ChatFinder::new(Vec::new(), Store::new(empty.path()))
        .with_archive(Arc::clone(&archive) as _, Waits::default());
    let find = async |model: &str, digest| finder.find(&ModelName::new(model), digest).await;
    assert!(matches!(find("mine", digest).await, Ok(None)), "nothing is published");
    publish(archive.as_ref(), &source, &pins).await.expect("published");
    let found = find("mine", digest).await.expect("searched").expect("found");
    assert_eq!(found.tokenizer_digest(), digest);
    assert!(matches!(find("mine", Digest::of(b"another")).await, Ok(None)), "it has another text side");
    assert!(matches!(find("another", digest).await, Ok(None)));
    assert!(matches!(find("No/Name", digest).await, Ok(None)));
    // A content that rotted is named, and not used.
    let rotten = pins.files.get(TOKENIZER).expect("pinned");
    let Published::Sha256(content) = rotten.digest else { unreachable!("pinned by SHA-256") };
    let piece = data.path().join(format!("archive/models/contents/{content}/000000"));
    let mut bytes = fs::read(&piece).expect("the piece");
    bytes[9] ^= 1;
    fs::write(&piece, bytes).expect("it rots");
    let error = find("mine", digest).await.err().expect("rotten").to_string();
    assert!(error.contains("tokenizer.json") && error.contains("pinned"), "{error}");
}
