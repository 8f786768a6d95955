//! The bodies that make and change keys: their fields, and what they ask.

use infera_ledger::{PrivacyChange, Scopes};
use infera_types::money::cost;

use crate::api::amounts::LIMIT;
use crate::api::failure::Failure;
use crate::api::shapes::SCOPES;
use crate::fastapi::{Bound, Checked, Field, Flaw, Json, Kind, Mistakes, Range, Step, Unfit, check_closed};
use crate::routes::call::Call;

/// The largest length of a name, in characters.
const NAME_MAX: usize = 100;

/// The longest validity that can be asked for, in seconds: ten years. A key without an end is asked for by leaving it out.
const EXPIRES_MAX_S: i64 = 10 * 365 * 86_400;

/// The body of a change.
pub(super) const CHANGED: &[Field] = &[
    Field::optional("name", Kind::Nullable(&Kind::Text))
        .about("A name to know the key by. It has no control characters.")
        .range(Range::Plain(0, NAME_MAX)),
    Field::optional("scopes", Kind::Nullable(&Kind::List(&Kind::Text)))
        .about("What the key permits: `user` for everything that an account does, `node` for its nodes alone. The caller's key needs the same.")
        .range(Range::ItemsAmong(SCOPES)),
    Field::optional("expires_in_s", Kind::Nullable(&Kind::Integer))
        .about("The seconds after which the key ends by itself; `null` for never.")
        .range(Range::Integers { least: 1, most: Bound::Integer(EXPIRES_MAX_S) }),
    Field::optional("store", Kind::Nullable(&Kind::Flag))
        .about("Whether the key's jobs are stored, if they don't say so themselves by `store`. A new key's are."),
    Field::optional("retention_days", Kind::Nullable(&Kind::Integer))
        .about("The days from a job's end after which the text and the archived records of the key's jobs are deleted; `null` for never.")
        .range(Range::Integers { least: 1, most: Bound::Setting("retention_days_max") }),
    Field::optional("spend_limit", Kind::Nullable(&Kind::Text))
        .about("The most that jobs under the key may cost in a calendar month (UTC), a decimal number in the network's currency; `null` for no limit. A key that has a limit itself sets none.")
        .range(Range::Pattern(LIMIT)),
];

/// The body of a new key.
pub(super) const KEY: &[Field] = &[
    CHANGED[0],
    CHANGED[1],
    CHANGED[2],
    CHANGED[3],
    CHANGED[4],
    CHANGED[5],
    Field::optional("account", Kind::Nullable(&Kind::Text))
        .about("The account that the key is for, which only a key with the scope `admin` may name."),
];
/// What a body asks of a key. What is none stays as it is, or is as usual.
pub(super) struct Asked {
    pub(super) name: Option<String>,
    pub(super) scopes: Option<Scopes>,
    pub(super) expires_in_s: Option<Option<u64>>,
    pub(super) spend_limit: Option<Option<u64>>,
    pub(super) account: Option<String>,
    pub(super) privacy: PrivacyChange,
}

impl Asked {
    pub(super) fn read(
        call: &Call,
        fields: &'static [Field],
        retention_days_max: u32,
    ) -> Result<Self, Failure> {
        let body = call.json()?;
        let [name, scopes, expires, store, retention, limit, account] =
            check_closed(&body, fields).map_err(Unfit::from)?.into_fields();
        let mut mistakes = Mistakes::default();
        let mut wrong = |field: &'static str, message: String| {
            let given = body.get(field).unwrap_or(&Json::Null);
            mistakes.add(&[Step::name(field)], Flaw::new("value_error", message), given);
        };
        let name = text(name);
        let is_fit = |name: &String| name.chars().count() <= NAME_MAX && !name.contains(char::is_control);
        if !name.as_ref().is_none_or(is_fit) {
            wrong(
                "name",
                format!("String should have at most {NAME_MAX} characters, none of them a control character"),
            );
        }
        let scopes = match scopes {
            Checked::List(words) => {
                let words: Vec<String> = words.into_iter().map(Checked::into_text).collect();
                let scopes = words.join(",").parse::<Scopes>();
                scopes
                    .map_err(|error| wrong("scopes", format!("Input should be a list of scopes: {error}")))
                    .ok()
            }
            _ => None,
        };
        let expires_in_s = match expires {
            Checked::Integer(seconds @ 1..=EXPIRES_MAX_S) => Some(u64::try_from(seconds).ok()),
            Checked::Integer(_) => {
                wrong(
                    "expires_in_s",
                    format!("Input should be between 1 and {EXPIRES_MAX_S} seconds, or null"),
                );
                None
            }
            Checked::Null => Some(None),
            _ => None,
        };
        let retention_days = match retention {
            Checked::Integer(days) => {
                let days = u32::try_from(days).ok().filter(|days| (1..=retention_days_max).contains(days));
                if days.is_none() {
                    let message = format!("Input should be between 1 and {retention_days_max} days, or null");
                    wrong("retention_days", message);
                }
                Some(days)
            }
            Checked::Null => Some(None),
            _ => None,
        };
        let spend_limit = match limit {
            Checked::Text(text) => cost(&text)
                .map_err(|error| wrong("spend_limit", format!("Input is no amount: {error}")))
                .ok()
                .map(Some),
            Checked::Null => Some(None),
            _ => None,
        };
        let privacy = PrivacyChange { stores: store.flag(), retention_days };
        let asked = Self { name, scopes, expires_in_s, privacy, spend_limit, account: text(account) };
        Ok(mistakes.none_or(asked).map_err(Unfit::from)?)
    }
}

/// Returns the text of a checked value, if it is one.
pub(in crate::routes) fn text(checked: Checked) -> Option<String> {
    if let Checked::Text(text) = checked { Some(text) } else { None }
}

/// Makes the error of one member of a body.
pub(in crate::routes) fn wrong(body: &Json, field: &'static str, message: &str) -> Unfit {
    let mut mistakes = Mistakes::default();
    let flaw = Flaw::new("value_error", message.to_owned());
    mistakes.add(&[Step::name(field)], flaw, body.get(field).unwrap_or(&Json::Null));
    Unfit::from(mistakes)
}
