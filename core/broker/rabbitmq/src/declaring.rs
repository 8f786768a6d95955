//! Says how each kind of queue is declared: options and arguments. Nothing here waits.

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use super::terms::short;
use infera_broker::{GIVEN_BACK_MAX, Queue};

/// Returns the options with which a queue is declared, besides its arguments.
pub(super) const fn options(queue: &Queue) -> QueueDeclareOptions {
    QueueDeclareOptions {
        passive: false,
        // An exclusive queue ends with its connection, so its messages needn't reach a disk.
        durable: !queue.exclusive,
        exclusive: queue.exclusive,
        auto_delete: false,
        nowait: false,
    }
}

/// Returns every argument that matters. None is left to the server's defaults, because those differ between its
/// versions.
pub(super) fn arguments(queue: &Queue) -> FieldTable {
    let mut table = FieldTable::default();
    let kind = if queue.replicated { "quorum" } else { "classic" };
    table.insert(short("x-queue-type"), AMQPValue::LongString(kind.into()));
    let overflow = if queue.fleeting { "drop-head" } else { "reject-publish" };
    table.insert(short("x-overflow"), AMQPValue::LongString(overflow.into()));
    if queue.replicated {
        table.insert(short("x-delivery-limit"), AMQPValue::LongLongInt(i64::from(GIVEN_BACK_MAX)));
    }
    let mut number = |name: &'static str, value: Option<u64>| {
        if let Some(value) = value {
            table.insert(short(name), AMQPValue::LongLongInt(i64::try_from(value).unwrap_or(i64::MAX)));
        }
    };
    number("x-max-length", queue.length_max);
    number("x-max-length-bytes", queue.bytes_max);
    number("x-expires", queue.idle_ms);
    if let Some(dead_letters) = &queue.dead_letters {
        // At least once: a message leaves only once it is confirmed there. Needs `reject-publish` and a quorum queue.
        for (name, value) in [
            ("x-dead-letter-exchange", ""),
            ("x-dead-letter-routing-key", dead_letters.as_str()),
            ("x-dead-letter-strategy", "at-least-once"),
        ] {
            table.insert(short(name), AMQPValue::LongString(value.into()));
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue() -> Queue {
        Queue {
            name: "q".to_owned(),
            bindings: Vec::new(),
            exclusive: false,
            fleeting: false,
            replicated: false,
            length_max: None,
            bytes_max: None,
            idle_ms: None,
            dead_letters: None,
        }
    }

    fn told(queue: &Queue) -> Vec<String> {
        let options = options(queue);
        let mut told: Vec<String> = arguments(queue)
            .into_iter()
            .map(|(name, value)| match value {
                AMQPValue::LongString(text) => format!("{name}={text}"),
                AMQPValue::LongLongInt(number) => format!("{name}={number}"),
                other => panic!("{name}={other:?}"),
            })
            .collect();
        told.push(format!("durable={} exclusive={}", options.durable, options.exclusive));
        told
    }

    #[test]
    fn every_kind_of_queue_says_all_that_it_is() {
        let classic = ["x-overflow=reject-publish", "x-queue-type=classic"];
        let lasting = "durable=true exclusive=false";
        let dead_letters = Some("dead".to_owned());
        let cases: [(Queue, Vec<&str>); 6] = [
            (
                Queue { replicated: true, dead_letters, ..queue() },
                vec![
                    "x-dead-letter-exchange=",
                    "x-dead-letter-routing-key=dead",
                    "x-dead-letter-strategy=at-least-once",
                    "x-delivery-limit=20",
                    "x-overflow=reject-publish",
                    "x-queue-type=quorum",
                    lasting,
                ],
            ),
            (queue(), [&classic[..], &[lasting]].concat()),
            (
                Queue { replicated: true, length_max: Some(7), bytes_max: Some(9), ..queue() },
                vec![
                    "x-delivery-limit=20",
                    "x-max-length=7",
                    "x-max-length-bytes=9",
                    "x-overflow=reject-publish",
                    "x-queue-type=quorum",
                    lasting,
                ],
            ),
            (
                Queue { idle_ms: Some(600_000), ..queue() },
                [&["x-expires=600000"][..], &classic, &[lasting]].concat(),
            ),
            (
                Queue { exclusive: true, ..queue() },
                [&classic[..], &["durable=false exclusive=true"]].concat(),
            ),
            (
                Queue::fleeting("q".to_owned(), Vec::new(), 7, 9),
                vec![
                    "x-max-length=7",
                    "x-max-length-bytes=9",
                    "x-overflow=drop-head",
                    "x-queue-type=classic",
                    "durable=false exclusive=true",
                ],
            ),
        ];
        for (queue, expected) in cases {
            assert_eq!(told(&queue), expected, "{queue:?}");
        }
    }
}
