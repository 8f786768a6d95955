//! Names the machine that the program runs on. The name tells two machines of one owner apart and says nothing else of them; it is
//! the program's word, which nothing proves.

use infera_types::ids::Digest;

/// Where Linux keeps the machine's id: made at its installation, and the same for all that run on it.
const MACHINE_ID: &str = "/etc/machine-id";

/// The length of a name, in characters: as many as an id has.
const NAME_LENGTH: usize = 32;

/// Returns the machine's name; none where the system has no id. A container without one of its own has none.
pub(super) fn name() -> Option<String> {
    std::fs::read_to_string(MACHINE_ID).ok().as_deref().and_then(name_of)
}

/// Returns a name that can't be traced back to the id, which other programs may keep secret.
fn name_of(id: &str) -> Option<String> {
    let id = id.trim();
    let digest = Digest::of(&[b"infera machine\0", id.as_bytes()].concat()).to_string();
    (!id.is_empty()).then(|| digest.chars().take(NAME_LENGTH).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_follows_from_the_id_and_does_not_show_it() {
        let id = "0123456789abcdef0123456789abcdef";
        let name = name_of(&format!("{id}\n")).unwrap();
        assert_eq!(Some(&name), name_of(id).as_ref());
        assert!(name.len() == NAME_LENGTH && !name.contains(&id[..8]));
        assert_ne!(Some(name), name_of("1123456789abcdef0123456789abcdef"));
        assert_eq!((name_of(""), name_of("\n")), (None, None));
    }
}
