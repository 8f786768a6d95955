//! What mails say, in plain ASCII. Lines with a link or a command are long; all others fit 76 columns.

use std::time::Duration;

use infera_ledger::{DueMail, MailKind};
use infera_mail::Letter;

use super::code::MailCode;

/// The path of the page that a mail links to, and of the request that its code is for.
const PROOF_PATH: &str = "/v1/account/proof";

/// The path of the request that asks for a code for a lost key.
const RECOVERY_ASK_PATH: &str = "/v1/account/recovery";

/// The path of the request that the code for a lost key is for.
const RECOVERY_PATH: &str = "/v1/account/recovery/key";

/// Returns the letter that carries a code.
pub(super) fn with_code(mail: &DueMail, code: &MailCode, public_url: &str, life: Duration) -> Letter {
    let (url, code, life) = (public_url.trim_end_matches('/'), code.expose(), in_words(life));
    match mail.kind {
        MailKind::Proof => letter(
            mail,
            "Prove your address for Infera",
            format!(
                "Somebody, we hope you, opened an account with this address at\n{url}\n\n\
                 Open this page and press its button within {life}, and the account\n\
                 counts by itself, and you can get a new key if you lose yours:\n\n\
                 {url}{PROOF_PATH}?code={code}\n\n\
                 Or send the code yourself:\n\n\
                 curl {url}{PROOF_PATH} -H 'Content-Type: application/json' -d '{{\"code\": \"{code}\"}}'\n\n\
                 If that was not you, do nothing: nothing is proven, and no more comes.\n"
            ),
        ),
        MailKind::Recovery => letter(
            mail,
            "A new key for your Infera account",
            format!(
                "Somebody, we hope you, lost the key of your account at\n{url}\n\n\
                 This code gets a new one, once, within {life}:\n\n\
                 {code}\n\n\
                 curl {url}{RECOVERY_PATH} -H 'Content-Type: application/json' -d '{{\"code\": \"{code}\"}}'\n\n\
                 The keys that you have go on. If one of them may be in other hands, add\n\
                 \"other_keys\": \"revoke\" to the request, and all of them end.\n\n\
                 If that was not you, do nothing: nothing has changed.\n"
            ),
        ),
    }
}

/// Returns the letter to an address that another account has proven. Its command has no address: one may have characters that a
/// shell reads as its own (`'` and `$(…)` are in valid ones), and a stranger may have chosen it.
pub(super) fn taken(mail: &DueMail, public_url: &str) -> Letter {
    let url = public_url.trim_end_matches('/');
    letter(
        mail,
        "You have an Infera account already",
        format!(
            "Somebody, we hope you, opened another account with this address at\n{url}\n\n\
             The address is proven for an account that you have already, and proves\n\
             no second one. If you lost that account's key, this gets you a mail with\n\
             a code for a new one, with your address for ADDRESS:\n\n\
             curl {url}{RECOVERY_ASK_PATH} -H 'Content-Type: application/json' -d '{{\"email\": \"ADDRESS\"}}'\n\n\
             If that was not you, do nothing: your account is as it was.\n"
        ),
    )
}

fn letter(mail: &DueMail, subject: &str, text: String) -> Letter {
    Letter { id: mail.id.to_string(), to: mail.address.clone(), subject: subject.to_owned(), text }
}

/// Returns a time in words, in the largest unit that says it without a fraction.
fn in_words(time: Duration) -> String {
    let seconds = time.as_secs();
    let (number, unit) = match seconds {
        _ if seconds >= 3_600 && seconds.is_multiple_of(3_600) => (seconds / 3_600, "hour"),
        _ if seconds >= 60 && seconds.is_multiple_of(60) => (seconds / 60, "minute"),
        _ => (seconds, "second"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use infera_ledger::MailKind;
    use infera_types::ids::MailId;

    use super::*;

    fn mail(kind: MailKind) -> DueMail {
        DueMail { id: MailId::new(), kind, address: "ada@example.com".to_owned(), account: None, tries: 1 }
    }

    #[test]
    fn a_letter_has_its_link_and_its_code_whole() {
        let code = MailCode::generate().unwrap();
        let life = Duration::from_secs(86_400);
        let proof = with_code(&mail(MailKind::Proof), &code, "https://infera.example/", life);
        let link = format!("\nhttps://infera.example/v1/account/proof?code={}\n", code.expose());
        assert!(proof.text.contains(&link) && proof.text.contains("within 24 hours"), "{}", proof.text);
        let recovery = with_code(&mail(MailKind::Recovery), &code, "https://infera.example", life);
        assert!(recovery.text.contains(&format!("\n{}\n", code.expose())), "{}", recovery.text);
        let taken = taken(&mail(MailKind::Proof), "https://infera.example");
        for letter in [proof, recovery, taken] {
            assert!(letter.text.is_ascii() && letter.subject.is_ascii());
            assert!(letter.text.lines().all(|line| line.len() < 400), "{}", letter.text);
        }
    }

    #[test]
    fn no_command_has_anything_of_an_address() {
        let address = "'$(id)'@example.com";
        let hostile = |kind| DueMail { address: address.to_owned(), ..mail(kind) };
        let (code, url) = (MailCode::generate().unwrap(), "https://infera.example");
        let life = Duration::from_secs(60);
        for letter in [
            taken(&hostile(MailKind::Proof), url),
            with_code(&hostile(MailKind::Proof), &code, url, life),
            with_code(&hostile(MailKind::Recovery), &code, url, life),
        ] {
            assert_eq!(letter.to, address);
            assert!(!letter.text.contains("id)"), "{}", letter.text);
        }
    }

    #[test]
    fn times_are_told_in_words() {
        for (seconds, expected) in [
            (86_400, "24 hours"),
            (3_600, "1 hour"),
            (5_400, "90 minutes"),
            (61, "61 seconds"),
            (1, "1 second"),
        ] {
            assert_eq!(in_words(Duration::from_secs(seconds)), expected);
        }
    }
}
