//! `GET /v1/usage`: what an account used, by day, key and model, as JSON or CSV.

use std::collections::BTreeMap;

use hyper::header::{ACCEPT, HeaderValue};
use infera_ledger::{KeyBook, UsageRow};
use infera_types::day::Day;
use infera_types::money::cost_text;
use infera_types::time::Timestamp;
use serde_json::{Map, Value, json};

use super::call::Call;
use super::keys::{ACCOUNT, account, failed};
use crate::api::amounts::put_spending;
use crate::api::error::ApiError;
use crate::api::failure::Failure;
use crate::api::operation::{
    self, Content, GoodReply, Member, Operation, Parameter, Place, Shape, always, sometimes,
};
use crate::api::query::Query;
use crate::api::reply::Reply;
use crate::config::Currency;

/// The longest time that one reply covers, in days: a leap year.
const DAYS_MAX: u64 = 366;

/// The days that are shown if the request doesn't say: today and the thirty before it.
const DAYS_DEFAULT: u64 = 30;

/// The largest number of rows that are added up: a hundred keys with ten models each, a hundred days long.
const ROWS_MAX: u32 = 100_000;

/// What rows are added up by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Grouping {
    day: bool,
    key: bool,
    model: bool,
}

/// A sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    requests: u64,
    prompt_tokens: u64,
    completion_tokens: u64,
    /// In billionths of the currency.
    cost: u64,
}

/// The words of a group's columns; none where it isn't grouped by that.
type Group = [Option<String>; 3];

/// The names of the columns by which rows are grouped.
const COLUMNS: [&str; 3] = ["day", "key", "model"];

const fn parameter(
    name: &'static str,
    shape: Shape,
    about: &'static str,
    example: &'static str,
) -> Parameter {
    Parameter { place: Place::Query, name, shape, about, example }
}

/// `GET /v1/usage`.
pub(crate) static SHOW: Operation = Operation {
    id: "retrieveUsage",
    group: operation::Group::Keys,
    summary: "Show what was used",
    about: "Adds up the answers and tokens of at most 366 days, by day, key or model. Clients that accept `text/csv` first, or \
            ask for it by `format`, get a table.",
    parameters: &[
        parameter(
            "from",
            Shape::Day,
            "The first day (UTC). The usual one is thirty days before the last.",
            "2026-11-01",
        ),
        parameter("to", Shape::Day, "The last day (UTC). The usual one is today.", "2026-11-30"),
        parameter(
            "group_by",
            Shape::Pattern("^(day|key|model)(,(day|key|model)){0,2}$"),
            "What is added up separately; the usual is `day`.",
            "day,model",
        ),
        parameter("format", Shape::Words(&["json", "csv"]), "The form of the reply.", "json"),
        ACCOUNT,
    ],
    body: None,
    reply: GoodReply {
        content: Content::JsonOrTable(Shape::Members(&[
            always("object", Shape::Words(&["list"]), "The kind of object."),
            always("from", Shape::Day, "The first day."),
            always("to", Shape::Day, "The last day."),
            always("currency", Shape::Text, "The currency of costs, in three capital letters."),
            always(
                "month",
                Shape::Members(MONTH),
                "What the account may spend in this calendar month (UTC), and spent.",
            ),
            always("data", Shape::List(&Shape::Members(ROW)), "The sums, by day, key and model."),
        ])),
        ..operation::json("What was used.", Shape::Any)
    },
    errors: &[],
};

const ROW: &[Member] = &[
    sometimes("day", Shape::Day, "The day."),
    sometimes("key", Shape::Maybe(&Shape::Text), "The public id of the key; `null` for jobs without one."),
    sometimes("model", Shape::Text, "The model."),
    always("requests", Shape::Count, "Answers."),
    always("prompt_tokens", Shape::Count, "Tokens of their prompts."),
    always("completion_tokens", Shape::Count, "Tokens of the answers."),
    always("total_tokens", Shape::Count, "Their sum."),
    always("cost", Shape::Text, "What the answers cost, a decimal number in the network's currency."),
];

const MONTH: &[Member] = &[
    always("spend_limit", Shape::Maybe(&Shape::Text), "The account's limit; `null` for none."),
    always("spent", Shape::Text, "What the ended jobs cost that were accepted in this month."),
    always("reserved", Shape::Text, "What is reserved for jobs that have not ended."),
    always("pays", Shape::Flag, "Whether the account pays, as the operator says."),
];

/// Shows what the caller's account used, or the account that an operator names.
///
/// # Errors
/// [`ApiError::BadRequest`] for a day, a grouping or a format that doesn't exist; [`ApiError::NotPermitted`]; the ledger's
/// error.
pub(crate) async fn show(book: &dyn KeyBook, currency: &Currency, call: &Call) -> Result<Reply, Failure> {
    let names = ["from", "to", "group_by", "format", "account"];
    let query = Query::read(call.head.uri.query(), &names);
    let [from, to, group_by, format, named] = names.map(|name| query.text(name).map(str::to_owned));
    query.none_wrong(())?;
    let account = account(&*call.caller()?, named)?;
    let (from, to) = days(from, to, Timestamp::now())?;
    let grouping = Grouping::read(group_by.as_deref().unwrap_or("day"))?;
    let is_csv = is_csv(call, format.as_deref())?;
    let rows = book.usage(&account, from, to, ROWS_MAX).await.map_err(failed)?;
    if rows.len() >= usize::try_from(ROWS_MAX).unwrap_or(usize::MAX) {
        return Err(ApiError::BadRequest("There are too many rows in this time; ask for fewer days.").into());
    }
    let sums = add_up(&rows, grouping);
    if is_csv {
        let table = HeaderValue::from_static("text/csv; charset=utf-8");
        return Ok(Reply::of(csv(&sums, grouping).into(), table));
    }
    let spending = book.spending(&account, Timestamp::now()).await.map_err(failed)?;
    let mut month = Map::new();
    put_spending(spending.account, &mut month);
    month.insert("pays".to_owned(), spending.pays.into());
    let data: Vec<Value> = sums.iter().map(|(group, sum)| object(group, *sum)).collect();
    let (from, to) = (Day::new(from).to_string(), Day::new(to).to_string());
    let reply = json!({
        "object": "list",
        "from": from,
        "to": to,
        "currency": currency.to_string(),
        "month": month,
        "data": data,
    });
    Ok(Reply::json(&reply)?)
}

/// Reads a query as [`show`] does.
#[cfg(feature = "fuzzing")]
pub(crate) fn examine(query: &str) {
    let query = Query::read(Some(query), &["from", "to", "group_by"]);
    let [from, to, words] = ["from", "to", "group_by"].map(|name| query.text(name).map(str::to_owned));
    if let Ok((from, to)) = days(from, to, Timestamp::from_millis(0)) {
        assert!(from <= to && to - from < DAYS_MAX);
        assert_eq!(Day::new(from).to_string().parse().map(Day::number).ok(), Some(from));
    }
    if let Some(words) = words {
        let _ = Grouping::read(&words);
    }
}

/// Reads the first and the last day.
fn days(from: Option<String>, to: Option<String>, now: Timestamp) -> Result<(u64, u64), ApiError> {
    const WRONG: ApiError = ApiError::BadRequest("'from' and 'to' must be days (UTC) such as 2026-11-30.");
    let read = |text: String| text.parse().map(Day::number).map_err(|_| WRONG);
    let to = to.map_or(Ok(Day::of(now).number()), read)?;
    let from = from.map_or(Ok(to.saturating_sub(DAYS_DEFAULT)), read)?;
    match to.checked_sub(from) {
        None => Err(ApiError::BadRequest("'from' must not be later than 'to'.")),
        Some(days) if days >= DAYS_MAX => {
            Err(ApiError::BadRequest("At most 366 days are shown at once; ask for a part."))
        }
        Some(_) => Ok((from, to)),
    }
}

/// Returns whether the client asked for CSV: by `format`, or else by `Accept`.
fn is_csv(call: &Call, format: Option<&str>) -> Result<bool, ApiError> {
    match format {
        Some("csv") => Ok(true),
        Some("json") => Ok(false),
        Some(_) => Err(ApiError::BadRequest("'format' must be json or csv.")),
        None => {
            let accept =
                call.head.headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let kinds = accept.split(',').map(|kind| kind.split(';').next().unwrap_or_default().trim());
            Ok(kinds.into_iter().next().is_some_and(|kind| kind.eq_ignore_ascii_case("text/csv")))
        }
    }
}

impl Grouping {
    fn read(words: &str) -> Result<Self, ApiError> {
        let mut grouping = Self::default();
        for word in words.split(',') {
            match word.trim() {
                "day" => grouping.day = true,
                "key" => grouping.key = true,
                "model" => grouping.model = true,
                _ => return Err(ApiError::BadRequest("'group_by' must be day, key and model, with commas.")),
            }
        }
        Ok(grouping)
    }

    fn of(self, row: &UsageRow) -> Group {
        let key = || row.key.as_ref().map_or_else(String::new, ToString::to_string);
        [
            self.day.then(|| Day::new(row.day).to_string()),
            self.key.then(key),
            self.model.then(|| row.model.to_string()),
        ]
    }
}

/// Adds rows up, ordered by day, key and model.
fn add_up(rows: &[UsageRow], grouping: Grouping) -> BTreeMap<Group, Sum> {
    let mut sums = BTreeMap::<Group, Sum>::new();
    for row in rows {
        let sum = sums.entry(grouping.of(row)).or_default();
        sum.requests += row.requests;
        sum.prompt_tokens += row.prompt_tokens;
        sum.completion_tokens += row.completion_tokens;
        sum.cost = sum.cost.saturating_add(row.cost);
    }
    sums
}

fn object(group: &Group, sum: Sum) -> Value {
    let mut object = Map::new();
    for (column, word) in COLUMNS.iter().zip(group) {
        if let Some(word) = word {
            // Jobs without a key have none.
            let value = if word.is_empty() { Value::Null } else { word.as_str().into() };
            object.insert((*column).to_owned(), value);
        }
    }
    let Sum { requests, prompt_tokens, completion_tokens, cost } = sum;
    object.insert("requests".to_owned(), requests.into());
    object.insert("prompt_tokens".to_owned(), prompt_tokens.into());
    object.insert("completion_tokens".to_owned(), completion_tokens.into());
    object.insert("total_tokens".to_owned(), (prompt_tokens + completion_tokens).into());
    object.insert("cost".to_owned(), cost_text(cost).into());
    Value::Object(object)
}

/// Writes sums as CSV (RFC 4180).
fn csv(sums: &BTreeMap<Group, Sum>, grouping: Grouping) -> String {
    let mut text = String::new();
    for (column, is_there) in COLUMNS.iter().zip([grouping.day, grouping.key, grouping.model]) {
        if is_there {
            text.push_str(column);
            text.push(',');
        }
    }
    text.push_str("requests,prompt_tokens,completion_tokens,total_tokens,cost\r\n");
    for (group, sum) in sums {
        for word in group.iter().flatten() {
            text.push_str(&quoted(word));
            text.push(',');
        }
        let Sum { requests, prompt_tokens, completion_tokens, cost } = sum;
        let (total, cost) = (prompt_tokens + completion_tokens, cost_text(*cost));
        text.push_str(&format!("{requests},{prompt_tokens},{completion_tokens},{total},{cost}\r\n"));
    }
    text
}

/// Quotes a word where CSV needs it, and where a spreadsheet would take it for a formula.
fn quoted(word: &str) -> String {
    let is_formula = word.starts_with(['=', '+', '-', '@']);
    if is_formula || word.contains([',', '"', '\r', '\n']) {
        let guard = if is_formula { "'" } else { "" };
        format!("\"{guard}{}\"", word.replace('"', "\"\""))
    } else {
        word.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use infera_types::ids::{KeyId, ModelName};

    use super::*;

    fn row(day: u64, key: Option<&str>, model: &str, requests: u64) -> UsageRow {
        UsageRow {
            day,
            key: key.map(KeyId::new),
            model: ModelName::new(model),
            requests,
            prompt_tokens: 10 * requests,
            completion_tokens: requests,
            cost: 1_500 * requests,
        }
    }

    #[test]
    fn sums_are_written_by_what_they_are_grouped_by() {
        let rows = [row(0, None, "a,b", 1), row(0, Some("key_1"), "=m", 2), row(1, Some("key_1"), "=m", 4)];
        let written = |words: &str| {
            let grouping = Grouping::read(words).unwrap();
            csv(&add_up(&rows, grouping), grouping)
        };
        assert_eq!(
            written("day"),
            "day,requests,prompt_tokens,completion_tokens,total_tokens,cost\r\n1970-01-01,3,30,3,33,0.0000045\r\n\
             1970-01-02,4,40,4,44,0.000006\r\n"
        );
        assert_eq!(
            written("model, key"),
            "key,model,requests,prompt_tokens,completion_tokens,total_tokens,cost\r\n,\"a,b\",1,10,1,11,0.0000015\r\n\
             key_1,\"'=m\",6,60,6,66,0.000009\r\n"
        );
        assert!(Grouping::read("week").is_err() && Grouping::read("").is_err());
    }

    #[test]
    fn days_default_to_the_last_month_and_are_bounded() {
        let now = Timestamp::from_millis(100 * 86_400_000 + 5);
        let text = |day: u64| Some(Day::new(day).to_string());
        assert_eq!(days(None, None, now), Ok((70, 100)));
        assert_eq!(days(text(10), text(20), now), Ok((10, 20)));
        assert_eq!(days(None, text(20), now), Ok((0, 20)));
        assert_eq!(days(text(0), text(365), now), Ok((0, 365)));
        for (from, to) in [(text(21), text(20)), (text(0), text(366)), (Some("x".to_owned()), None)] {
            assert!(days(from, to, now).is_err());
        }
    }
}
