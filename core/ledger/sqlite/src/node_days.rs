//! What nodes' verdicts add up to per day, as it is stored. `ledger::node_days` decides what is added.

use std::collections::HashMap;

use rusqlite::{Connection, Row, params};

use super::failure::Failure;
use super::values::{Numbered as _, Word, count, whole};
use infera_ledger::{NodeDay, VerdictCounts, add_to_node_day, node_day_columns};
use infera_types::day::Day;
use infera_types::ids::NodeId;

/// Adds to nodes' days what some postings add up to.
pub(super) fn add_days(
    connection: &Connection,
    days: &HashMap<(&NodeId, Day), NodeDay>,
) -> Result<(), Failure> {
    const ADD: &str = concat!(
        "INSERT INTO node_days (",
        node_day_columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        add_to_node_day!()
    );
    let mut statement = connection.numbered(ADD)?;
    for ((node, day), sums) in days {
        let NodeDay { verdicts, valid_intervals: [first, second, third], .. } = *sums;
        statement.execute(params![
            Word(node.as_str()),
            whole(day.number()),
            sums.millipoints,
            whole(sums.tokens),
            whole(verdicts.valid),
            whole(verdicts.invalid),
            whole(verdicts.inconclusive),
            whole(verdicts.missed),
            whole(verdicts.neutral),
            whole(first),
            whole(second),
            whole(third)
        ])?;
    }
    Ok(())
}

/// Reads a row of [`infera_ledger::statements::NODE_DAYS`].
pub(super) fn node_day(row: &Row<'_>) -> rusqlite::Result<NodeDay> {
    Ok(NodeDay {
        day: Day::new(count(row, 1)?),
        millipoints: row.get(2)?,
        tokens: count(row, 3)?,
        verdicts: VerdictCounts {
            valid: count(row, 4)?,
            invalid: count(row, 5)?,
            inconclusive: count(row, 6)?,
            missed: count(row, 7)?,
            neutral: count(row, 8)?,
        },
        valid_intervals: [count(row, 9)?, count(row, 10)?, count(row, 11)?],
    })
}
