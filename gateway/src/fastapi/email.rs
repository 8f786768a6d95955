//! Checks e-mail addresses as `pydantic.EmailStr` does, with the messages of its checker (email-validator 2.4,
//! without DNS). Addresses outside ASCII, which that checker may accept, are refused here, because no mail could be
//! sent to them. Quoted local parts and bracketed IP addresses are refused by both.

/// The longest text, in characters. Pydantic refuses longer ones unread.
const INPUT_MAX: usize = 2048;
/// The longest address, in characters (RFC 3696, errata 1690).
const ADDRESS_MAX: usize = 254;
/// The longest domain, in characters (RFC 1035, 2.3.4).
const DOMAIN_MAX: usize = 253;
/// The longest label of a domain, in characters (RFC 1035, 2.3.1).
const LABEL_MAX: usize = 63;
/// The top-level domains that reach no mailbox (RFC 6761 and its successors).
const SPECIAL: [&str; 6] = ["arpa", "invalid", "local", "localhost", "onion", "test"];
/// The mailboxes whose names mean the same in any case (RFC 2142).
const CASELESS: [&str; 15] = [
    "info",
    "marketing",
    "sales",
    "support",
    "abuse",
    "noc",
    "security",
    "postmaster",
    "hostmaster",
    "usenet",
    "news",
    "webmaster",
    "www",
    "uucp",
    "ftp",
];

/// Returns the address in its normal form: the domain in lower case, and also those mailboxes whose case has no
/// meaning.
///
/// # Errors
/// The reason, as a sentence.
pub(crate) fn normalise(text: &str) -> Result<String, String> {
    if text.chars().count() > INPUT_MAX {
        return Err(format!("Length must not exceed {INPUT_MAX} characters"));
    }
    if text.contains(['\r', '\n']) {
        return Err("Carriage return and line feed characters are not allowed".to_owned());
    }
    let address = without_display_name(text).trim();
    if !address.is_ascii() {
        return Err("Addresses outside ASCII are not supported here.".to_owned());
    }
    let (local, domain) = split(address)?;
    let local = checked_local(local)?;
    let domain = checked_domain(domain)?;
    let length = local.len() + 1 + domain.len();
    if length > ADDRESS_MAX {
        return Err(format!("The email address is too long {}.", too_many(length, ADDRESS_MAX)));
    }
    Ok(format!("{local}@{domain}"))
}

/// Returns the address in a text such as `Ada Lovelace <ada@example.com>`, if the name consists of plain words.
fn without_display_name(text: &str) -> &str {
    let trimmed = text.trim();
    let Some((name, rest)) = trimmed.split_once('<') else { return text };
    let Some(inner) = rest.strip_suffix('>').filter(|inner| !inner.is_empty()) else { return text };
    let plain = |character: char| {
        character.is_alphanumeric() || character.is_whitespace() || "_.!#$%&'*+-/=?^`{|}~".contains(character)
    };
    let name = name.trim();
    let quoted = name.len() > 2
        && name.starts_with('"')
        && name.ends_with('"')
        && !name[1..name.len() - 1].contains('"');
    if name.chars().all(plain) || quoted { inner } else { text }
}

/// Returns the parts before and after the first `@` outside quotes.
fn split(address: &str) -> Result<(&str, &str), String> {
    let (mut quoted, mut escaped) = (false, false);
    let at = address.bytes().position(|byte| {
        let found = !quoted && byte == b'@';
        if quoted {
            let opens_escape = byte == b'\\' && !escaped;
            quoted = byte != b'"' || escaped;
            escaped = opens_escape;
        } else {
            quoted = byte == b'"';
        }
        found
    });
    at.map(|at| (&address[..at], &address[at + 1..]))
        .ok_or_else(|| "An email address must have an @-sign.".to_owned())
}

fn checked_local(local: &str) -> Result<String, String> {
    if local.is_empty() || local == "\"\"" {
        return Err("There must be something before the @-sign.".to_owned());
    }
    if local.starts_with('"') && local.ends_with('"') && local.len() > 2 {
        return Err("Quoting the part before the @-sign is not allowed here.".to_owned());
    }
    let allowed =
        |character: char| character.is_ascii_alphanumeric() || "_!#$%&'*+-/=?^`{|}~.".contains(character);
    refuse_characters(local, allowed, "The email address contains invalid characters before the @-sign")?;
    if local.ends_with('.') {
        return Err("An email address cannot have a period immediately before the @-sign.".to_owned());
    }
    if local.starts_with('.') {
        return Err("An email address cannot start with a period.".to_owned());
    }
    if local.contains("..") {
        return Err("An email address cannot have two periods in a row.".to_owned());
    }
    let lower = local.to_ascii_lowercase();
    Ok(if CASELESS.contains(&lower.as_str()) { lower } else { local.to_owned() })
}

fn checked_domain(domain: &str) -> Result<String, String> {
    if domain.is_empty() {
        return Err("There must be something after the @-sign.".to_owned());
    }
    if domain.starts_with('[') && domain.ends_with(']') {
        return Err("A bracketed IP address after the @-sign is not allowed here.".to_owned());
    }
    if domain.len() > DOMAIN_MAX {
        let excess = too_many(domain.len(), DOMAIN_MAX);
        return Err(format!("The email address is too long after the @-sign {excess}."));
    }
    let allowed = |character: char| character.is_ascii_alphanumeric() || character == '-' || character == '.';
    refuse_characters(domain, allowed, "The part after the @-sign contains invalid characters")?;
    let domain = domain.to_ascii_lowercase();
    refuse_dots_and_hyphens(&domain)?;
    refuse_labels(&domain)?;
    if !domain.contains('.') {
        return Err("The part after the @-sign is not valid. It should have a period.".to_owned());
    }
    if !domain.ends_with(|last: char| last.is_ascii_alphabetic()) {
        return Err(
            "The part after the @-sign is not valid. It is not within a valid top-level domain.".to_owned()
        );
    }
    let is_special = |name: &&str| domain.strip_suffix(*name).is_some_and(|rest| rest.ends_with('.'));
    if SPECIAL.iter().any(is_special) {
        return Err(
            "The part after the @-sign is a special-use or reserved name that cannot be used with email."
                .to_owned(),
        );
    }
    Ok(domain)
}

fn refuse_dots_and_hyphens(domain: &str) -> Result<(), String> {
    let reason = if domain.ends_with('.') {
        "An email address cannot end with a period."
    } else if domain.starts_with('.') {
        "An email address cannot have a period immediately after the @-sign."
    } else if domain.contains("..") {
        "An email address cannot have two periods in a row."
    } else if domain.ends_with('-') {
        "An email address cannot end with a hyphen."
    } else if domain.starts_with('-') {
        "An email address cannot have a hyphen immediately after the @-sign."
    } else if domain.contains(".-") || domain.contains("-.") {
        "An email address cannot have a period and a hyphen next to each other."
    } else {
        return Ok(());
    };
    Err(reason.to_owned())
}

fn refuse_labels(domain: &str) -> Result<(), String> {
    for label in domain.split('.') {
        if label.get(2..4) == Some("--") && !label.starts_with("xn") {
            return Err(
                "An email address cannot have two letters followed by two dashes immediately after the \
                        @-sign or after a period, except Punycode."
                    .to_owned(),
            );
        }
    }
    for label in domain.split('.') {
        if label.len() > LABEL_MAX {
            let excess = too_many(label.len(), LABEL_MAX);
            return Err(format!(
                "After the @-sign, periods cannot be separated by so many characters {excess}."
            ));
        }
    }
    Ok(())
}

fn too_many(length: usize, limit: usize) -> String {
    let excess = length - limit;
    format!("({excess} character{} too many)", if excess > 1 { "s" } else { "" })
}

/// Refuses a text with characters that `allowed` doesn't allow. The error lists each of them once, in order, as
/// Python shows them.
fn refuse_characters(text: &str, allowed: impl Fn(char) -> bool, message: &str) -> Result<(), String> {
    let mut wrong: Vec<String> = text.chars().filter(|&character| !allowed(character)).map(shown).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    wrong.sort();
    wrong.dedup();
    Err(format!("{message}: {}.", wrong.join(", ")))
}

fn shown(character: char) -> String {
    match character {
        ' ' => "SPACE".to_owned(),
        '\\' => "\"\\\"".to_owned(),
        '\'' => "\"'\"".to_owned(),
        character if character.is_ascii_control() => format!("U+{:04X}", u32::from(character)),
        character => format!("'{character}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::normalise;

    #[test]
    fn normal_forms() {
        for (text, expected) in [
            ("ada@example.com", "ada@example.com"),
            (" Ada@Example.COM ", "Ada@example.com"),
            ("Info@B.co", "info@b.co"),
            ("Ada Lovelace <ada@b.co>", "ada@b.co"),
            ("a+tag@b-c.co", "a+tag@b-c.co"),
        ] {
            assert_eq!(normalise(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn outside_ascii_is_refused() {
        assert!(normalise("é@b.co").is_err());
        assert!(normalise("a@é.co").is_err());
    }
}
