//! A posting as it is packed: its id as the kind and the sixteen bytes of what it follows from, its node as bytes, and its
//! content without the node that the row's own column names.

use infera_types::columns::{MalformedColumns, read_bytes, read_whole, write_whole};
use infera_types::ids::{AccountId, AssignmentId, JobId, ModelName, NodeId};
use infera_types::time::Timestamp;
use strum::VariantArray as _;

use super::text::{read_name, write_name};
use super::{VERSION, malformed};
use crate::{LedgerError, Posting, PostingEntry, Verdict};

/// The kinds of ids, their first byte.
const OF_USAGE: u8 = 1;
const OF_VERDICT: u8 = 2;

/// The kinds of contents, the byte behind the version.
const USAGE: u8 = 1;
const VERDICT: u8 = 2;

/// The flags of a verdict.
const ON_TIME: u8 = 1;
const OUTSIDE: u8 = 2;
const CHOSEN: u8 = 4;
/// The content names the node itself, because the row's column doesn't.
const HAS_NODE: u8 = 8;

/// Returns a posting's id as bytes: a kind and sixteen bytes. None if it is of another kind than ours are.
#[must_use]
pub fn pack_id(id: &str) -> Option<[u8; 17]> {
    let (kind, number) = match id.split_once(':')? {
        ("usage", job) => (OF_USAGE, *job.parse::<JobId>().ok()?.as_bytes()),
        ("verdict", assignment) => (OF_VERDICT, *assignment.parse::<AssignmentId>().ok()?.as_bytes()),
        _ => return None,
    };
    let mut bytes = [kind; 17];
    bytes[1..].copy_from_slice(&number);
    // Only an id that is written as ours are can be made again of its bytes.
    (unpack_id(&bytes).ok()? == id).then_some(bytes)
}

/// Returns the id that was packed.
///
/// # Errors
/// [`LedgerError::Row`]: the bytes are no packed id.
pub fn unpack_id(bytes: &[u8]) -> Result<String, LedgerError> {
    let (kind, number) = bytes.split_first().unwrap_or((&0, &[]));
    match (*kind, <[u8; 16]>::try_from(number)) {
        (OF_USAGE, Ok(number)) => Ok(format!("usage:{}", JobId::from_bytes(number))),
        (OF_VERDICT, Ok(number)) => Ok(format!("verdict:{}", AssignmentId::from_bytes(number))),
        _ => Err(LedgerError::Row("a posting's id can't be read".to_owned())),
    }
}

/// Returns a node's id as bytes.
#[must_use]
pub fn pack_node(node: &NodeId) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_name(node.as_str(), &mut bytes);
    bytes
}

fn unpack_node(mut bytes: &[u8]) -> Result<NodeId, LedgerError> {
    name(&mut bytes).map(NodeId::new)
}

/// Packs a posting's content. The node of work that was found VALID is left to the row's own column.
#[must_use]
pub fn pack_entry(entry: &PostingEntry) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    match entry {
        PostingEntry::Usage { account, prompt_tokens, completion_tokens } => {
            bytes.push(USAGE);
            write_name(account.as_str(), &mut bytes);
            write_whole(*prompt_tokens, &mut bytes);
            write_whole(*completion_tokens, &mut bytes);
        }
        PostingEntry::Verdict {
            node,
            model,
            verdict,
            millipoints,
            elapsed_ms,
            tokens,
            on_time,
            numbers_outside,
            is_for_chosen_nodes,
        } => {
            let has_node = entry.valid_node().is_none();
            let flags = [(*on_time, ON_TIME), (*numbers_outside, OUTSIDE), (*is_for_chosen_nodes, CHOSEN)];
            let flags = flags.into_iter().chain([(has_node, HAS_NODE)]);
            let flags = flags.filter(|(is_set, _)| *is_set).map(|(_, flag)| flag).sum();
            bytes.extend([VERDICT, number_of(*verdict), flags]);
            if has_node {
                write_name(node.as_str(), &mut bytes);
            }
            write_name(model.as_str(), &mut bytes);
            // Signs are kept in the lowest bit, so that small losses are small numbers too.
            write_whole((millipoints.cast_unsigned() << 1) ^ (millipoints >> 63).cast_unsigned(), &mut bytes);
            write_whole(*elapsed_ms, &mut bytes);
            write_whole(*tokens, &mut bytes);
        }
    }
    bytes
}

/// Returns the content that was packed; `valid_node` is the row's own column.
///
/// # Errors
/// [`LedgerError::Row`]: the bytes are no packed content.
pub fn unpack_entry(bytes: &[u8], valid_node: Option<&[u8]>) -> Result<PostingEntry, LedgerError> {
    let wrong = |error| malformed("posting", error);
    let (mut rest, head) = (bytes, 2);
    let head = read_bytes(head, &mut rest).map_err(wrong)?;
    match *head {
        [VERSION, USAGE] => Ok(PostingEntry::Usage {
            account: AccountId::new(name(&mut rest)?),
            prompt_tokens: read_whole(&mut rest).map_err(wrong)?,
            completion_tokens: read_whole(&mut rest).map_err(wrong)?,
        }),
        [VERSION, VERDICT] => unpack_verdict(rest, valid_node),
        _ => Err(LedgerError::Row("a posting is of a form that this program doesn't know".to_owned())),
    }
}

fn unpack_verdict(mut rest: &[u8], valid_node: Option<&[u8]>) -> Result<PostingEntry, LedgerError> {
    let wrong = |error| malformed("posting", error);
    let [verdict, flags] = *read_bytes(2, &mut rest).map_err(wrong)? else {
        return Err(wrong(MalformedColumns::CutOff));
    };
    let verdict = Verdict::VARIANTS.iter().find(|known| number_of(**known) == verdict);
    let verdict = verdict.ok_or_else(|| LedgerError::Row("a posting's verdict is unknown".to_owned()))?;
    let node = if flags & HAS_NODE == 0 {
        let missing = || LedgerError::Row("a posting's node is missing".to_owned());
        unpack_node(valid_node.ok_or_else(missing)?)?
    } else {
        name(&mut rest).map(NodeId::new)?
    };
    let model = ModelName::new(name(&mut rest)?);
    let points = read_whole(&mut rest).map_err(wrong)?;
    Ok(PostingEntry::Verdict {
        node,
        model,
        verdict: *verdict,
        millipoints: (points >> 1).cast_signed() ^ -(points & 1).cast_signed(),
        elapsed_ms: read_whole(&mut rest).map_err(wrong)?,
        tokens: read_whole(&mut rest).map_err(wrong)?,
        on_time: flags & ON_TIME != 0,
        numbers_outside: flags & OUTSIDE != 0,
        is_for_chosen_nodes: flags & CHOSEN != 0,
    })
}

/// What stands in a posting's row besides its job and its time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PostingRow {
    /// As rows are written now.
    Packed {
        /// The id.
        id: Vec<u8>,
        /// The content.
        entry: Vec<u8>,
        /// The node, if its work was found VALID.
        valid_node: Option<Vec<u8>>,
    },
    /// As rows of before are written, and those with ids of other kinds than ours.
    Plain {
        /// The id.
        id: String,
        /// The content's JSON.
        entry: String,
        /// The node, if its work was found VALID.
        valid_node: Option<String>,
    },
}

impl PostingRow {
    /// Makes the row of a posting, packed if its id can be.
    ///
    /// # Errors
    /// [`LedgerError::Row`]: it can't be written as JSON.
    pub fn packed(posting: &Posting) -> Result<Self, LedgerError> {
        let Some(id) = pack_id(&posting.id) else { return Self::plain(posting) };
        Ok(Self::Packed {
            id: id.to_vec(),
            entry: pack_entry(&posting.entry),
            valid_node: posting.entry.valid_node().map(pack_node),
        })
    }

    /// Makes the row of a posting as programs of before wrote it.
    ///
    /// # Errors
    /// [`LedgerError::Row`]: it can't be written as JSON.
    pub fn plain(posting: &Posting) -> Result<Self, LedgerError> {
        Ok(Self::Plain {
            id: posting.id.clone(),
            entry: crate::stored::to_json(&posting.entry)?,
            valid_node: posting.entry.valid_node().map(|node| node.as_str().to_owned()),
        })
    }

    /// Returns the posting of a row of a job.
    ///
    /// # Errors
    /// [`LedgerError::Row`]: the row can't be read.
    pub fn posting(self, job_id: JobId, posted_ms: Timestamp) -> Result<Posting, LedgerError> {
        let (id, entry) = match self {
            Self::Packed { id, entry, valid_node } => {
                (unpack_id(&id)?, unpack_entry(&entry, valid_node.as_deref())?)
            }
            Self::Plain { id, entry, .. } => (id, crate::stored::from_json("posting", entry.as_bytes())?),
        };
        Ok(Posting { id, job_id, posted_ms, entry })
    }
}

/// Returns the number of a verdict. They are written out, because rows keep them.
const fn number_of(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Valid => 1,
        Verdict::Invalid => 2,
        Verdict::Inconclusive => 3,
        Verdict::Missed => 4,
        Verdict::Neutral => 5,
    }
}

fn name(bytes: &mut &[u8]) -> Result<String, LedgerError> {
    let name = read_name(bytes).map_err(|error| malformed("posting", error))?;
    name.ok_or_else(|| LedgerError::Row("a name in a posting is no text".to_owned()))
}
