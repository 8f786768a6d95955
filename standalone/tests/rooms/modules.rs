//! Models a crate as modules that import each other. It finds the file that defines what another file names, also
//! through re-exports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::reader::{Import, Reading, Words, read};

/// A module's path from its crate's root, such as `["config", "layers"]`. The root, `lib.rs`, has none.
pub(crate) type Module = Vec<String>;

/// The modules of one crate, a file each.
pub(crate) struct Modules(BTreeMap<Module, Reading>);

/// How many modules may show a name one after the other; more is a mistake of ours.
const SHOWN_MAX: usize = 16;

impl Modules {
    /// Reads a crate's sources.
    pub(crate) fn read(sources: &Path) -> Self {
        let mut modules = BTreeMap::new();
        let mut folders = vec![sources.to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(&folder).expect("a folder of sources") {
                let path = entry.expect("an entry").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let text = std::fs::read_to_string(&path).expect("a readable source");
                    let inner = path.strip_prefix(sources).expect("within the sources").with_extension("");
                    let module: Module = inner
                        .iter()
                        .map(|word| word.to_string_lossy().into_owned())
                        .filter(|word| word != "lib" && word != "mod")
                        .collect();
                    let reading = read(&text);
                    modules.insert(
                        module,
                        reading.unwrap_or_else(|error| panic!("{}: {error}", path.display())),
                    );
                }
            }
        }
        Self(modules)
    }

    /// The modules at the root's first level, and the root itself as `lib`.
    pub(crate) fn rooms(&self) -> BTreeSet<String> {
        self.0.keys().map(room).collect()
    }

    /// Which module imports which, and one name that it takes. What a module shows of its own inner ones is a face, and
    /// no import.
    pub(crate) fn arrows(&self) -> BTreeMap<(Module, Module), String> {
        let mut arrows = BTreeMap::new();
        for (module, reading) in &self.0 {
            let imports = reading.imports.iter().filter(|import| !self.is_face(module, import));
            for path in imports.map(|import| &import.path).chain(&reading.paths) {
                for target in self.found(module, path, SHOWN_MAX) {
                    if target != *module {
                        arrows.entry((module.clone(), target)).or_insert_with(|| path.join("::"));
                    }
                }
            }
        }
        arrows
    }

    /// Whether a module only shows what is brought from one within it, and makes no use of it.
    fn is_face(&self, module: &Module, import: &Import) -> bool {
        let Some((inner, _)) = self.start(module, &import.path).filter(|_| import.is_shown) else {
            return false;
        };
        let (words, shown) = (&self.0[module].words, &self.0[&inner].defined);
        let is_used =
            if import.name == "*" { !shown.is_disjoint(words) } else { words.contains(&import.name) };
        is_within(&inner, module) && !is_used
    }

    /// Where a path leads within the crate: the deepest module on it, and what is left of it. None: out of the crate.
    fn start(&self, module: &Module, path: &Words) -> Option<(Module, Words)> {
        let mut at = match path.first()?.as_str() {
            "crate" => Module::new(),
            "self" => module.clone(),
            "super" => module.split_last().map(|(_, outer)| outer.to_vec())?,
            word => {
                let inner = [module.as_slice(), &[word.to_owned()]].concat();
                self.0.contains_key(&inner).then_some(inner)?
            }
        };
        let mut rest = path[1..].iter().peekable();
        while rest.next_if(|word| *word == "super").is_some() {
            at.pop()?;
        }
        while let Some(word) = rest.peek() {
            let inner = [at.as_slice(), &[(*word).clone()]].concat();
            if !self.0.contains_key(&inner) {
                break;
            }
            at = inner;
            rest.next();
        }
        Some((at, rest.cloned().collect()))
    }

    /// The modules that define what a path names.
    fn found(&self, module: &Module, path: &Words, depth: usize) -> BTreeSet<Module> {
        let Some((at, rest)) = self.start(module, path).filter(|_| depth > 0) else { return BTreeSet::new() };
        let (Some(name), Some(reading)) = (rest.first(), self.0.get(&at)) else {
            return BTreeSet::from([at]);
        };
        if reading.defined.contains(name) {
            return BTreeSet::from([at]);
        }
        let is_it = |import: &&Import| import.name == *name && name != "*";
        if let Some(import) = reading.imports.iter().find(is_it) {
            let shown = self.found(&at, &import.path, depth - 1);
            return if at == *module { BTreeSet::new() } else { shown };
        }
        let shown = self.shown(&at, name, depth - 1).filter(|_| name != "*");
        BTreeSet::from([shown.unwrap_or(at)])
    }

    /// The module that defines what another one shows by a glob.
    fn shown(&self, at: &Module, name: &str, depth: usize) -> Option<Module> {
        let globs = self.0.get(at)?.imports.iter().filter(|import| import.name == "*" && depth > 0);
        globs.filter_map(|import| self.start(at, &import.path)).find_map(|(inner, _)| {
            let is_there = self.0.get(&inner)?.defined.contains(name);
            if is_there { Some(inner) } else { self.shown(&inner, name, depth - 1) }
        })
    }

    /// Groups of modules that import each other in a circle; none where data flows one way.
    pub(crate) fn circles(&self) -> Vec<BTreeSet<Module>> {
        let arrows = self.arrows();
        let reachable: BTreeMap<&Module, BTreeSet<&Module>> =
            self.0.keys().map(|module| (module, reachable(&arrows, module))).collect();
        let mut circles = BTreeSet::new();
        for (module, others) in &reachable {
            if others.contains(module) {
                let back =
                    |other: &&&Module| reachable.get(**other).is_some_and(|theirs| theirs.contains(module));
                circles.insert(
                    others.iter().filter(back).map(|other| (*other).clone()).collect::<BTreeSet<_>>(),
                );
            }
        }
        circles.into_iter().collect()
    }
}

/// The room that a module lies in: its first word, or `lib`.
pub(crate) fn room(module: &Module) -> String {
    module.first().cloned().unwrap_or_else(|| "lib".to_owned())
}

fn is_within(inner: &Module, outer: &Module) -> bool {
    inner.len() > outer.len() && inner.starts_with(outer)
}

fn reachable<'a>(arrows: &'a BTreeMap<(Module, Module), String>, from: &Module) -> BTreeSet<&'a Module> {
    let mut found = BTreeSet::new();
    let mut next = vec![from];
    while let Some(module) = next.pop() {
        for (_, target) in arrows.keys().filter(|(source, _)| source == module) {
            if found.insert(target) {
                next.push(target);
            }
        }
    }
    found
}

/// The checks see what they are for: a circle through a face, one within macros, one by `super`; and none where tests alone
/// import.
#[test]
fn a_circle_is_seen_however_it_is_written() {
    let shapes: [(&[(&str, &str)], usize); 6] = [
        (
            &[
                ("lib", "mod a; mod b;"),
                ("a", "use crate::b::B; pub struct A;"),
                ("b", "use crate::a::A; pub struct B;"),
            ],
            1,
        ),
        // By a name that the root only shows.
        (
            &[
                ("lib", "mod a; mod b; pub use a::A; pub use b::B;"),
                ("a", "use super::B; pub struct A;"),
                ("b", "fn b() { tokio::select! { x = crate::A::new() => {} } } pub struct B;"),
            ],
            1,
        ),
        // Between a module and one within it.
        (
            &[
                ("lib", "mod a;"),
                ("a", "mod inner; use inner::Inner; pub struct A;"),
                ("a/inner", "use super::A; pub struct Inner;"),
            ],
            1,
        ),
        // A face is no import.
        (
            &[
                ("lib", "mod a;"),
                ("a", "mod inner; pub use inner::Inner; pub struct A;"),
                ("a/inner", "use super::A; pub struct Inner;"),
            ],
            0,
        ),
        // Siblings that meet in a third do not meet each other.
        (
            &[
                ("lib", "mod a; mod b; pub use a::A;"),
                ("a", "pub struct A;"),
                ("b", "use super::{A}; pub struct B;"),
            ],
            0,
        ),
        (
            &[
                ("lib", "mod a; mod b;"),
                ("a", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
                ("b", "use crate::a::A; pub struct B;"),
            ],
            0,
        ),
    ];
    for (files, circles) in shapes {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            let path = folder.path().join(format!("{name}.rs"));
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        assert_eq!(Modules::read(folder.path()).circles().len(), circles, "{files:?}");
    }
}
