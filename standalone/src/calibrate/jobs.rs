//! The honest jobs of a calibration: the same ones whenever it runs, each with a key of its own.

use infera_model::chat::{ChatError, ChatModel};
use infera_sampling::{Noise, Rules, Terms};
use infera_types::ids::Digest;
use infera_types::knobs::Knobs;
use infera_types::time::Timestamp;
use infera_types::{job::ChatMessage, numbers::TokenId};

/// The temperatures, in equal shares: greedy, the usual chat temperature, and the model's own distribution.
const TEMPERATURES: [f64; 3] = [0.0, 0.7, 1.0];
/// The most tokens of the bundled model's answers, most of which are shorter.
const BUNDLED_ANSWER_TOKENS_MAX: usize = 48;
/// The most tokens of other models' answers, in turn: many short ones say more than few long ones, and take less time.
const ANSWER_TOKENS_MAX: [usize; 7] = [8, 8, 8, 8, 8, 12, 24];

/// One honest job.
pub(super) struct Job {
    pub(super) prompt: Vec<TokenId>,
    pub(super) sample_key: Digest,
    pub(super) temperature: f64,
    pub(super) answer_tokens_max: usize,
}

impl Job {
    /// Returns by what its tokens are chosen: without knobs, which change no raw number.
    pub(super) fn rules(&self) -> Rules {
        let knobs = &Knobs::default();
        let temperature = self.temperature;
        Rules::new(&Terms { temperature, knobs, top_logprobs: None, end_tokens: &[], prompt: &[] })
    }

    /// Returns the noise that its tokens are chosen with.
    pub(super) fn noise(&self) -> Noise {
        Noise::new(&self.sample_key, 0)
    }
}

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Domain {
    /// What the bundled model can answer.
    Bundled,
    /// Anything: most prompts are as short as 20 tokens, some have up to 200.
    Anything,
}

/// Makes `count` jobs, in the order of their prompts' lengths, so that little of a batch is padding.
pub(super) fn jobs(chat: &ChatModel, domain: Domain, count: u64) -> Result<Vec<Job>, ChatError> {
    let now = Timestamp::from_millis(0);
    let prompt = |index: u64| {
        let messages = match domain {
            Domain::Bundled => vec![said("user", bundled(index))],
            Domain::Anything => anything(index),
        };
        chat.render(&messages, now)
    };
    let mut prompts = (0..count).map(prompt).collect::<Result<Vec<_>, _>>()?;
    prompts.sort_by_key(Vec::len);
    let job = |(index, prompt): (usize, Vec<TokenId>)| Job {
        prompt,
        sample_key: Digest::of(format!("calibration job {index}").as_bytes()),
        temperature: TEMPERATURES[index % TEMPERATURES.len()],
        answer_tokens_max: match domain {
            Domain::Bundled => BUNDLED_ANSWER_TOKENS_MAX,
            Domain::Anything => ANSWER_TOKENS_MAX[index % ANSWER_TOKENS_MAX.len()],
        },
    };
    Ok(prompts.into_iter().enumerate().map(job).collect())
}

/// Returns the digest of all that the answers depend on beside the model.
pub(super) fn digest(jobs: &[Job]) -> Digest {
    let mut bytes = Vec::new();
    for job in jobs {
        job.prompt.iter().for_each(|token| bytes.extend(token.to_le_bytes()));
        bytes.extend(job.sample_key.as_bytes());
        bytes.extend(job.temperature.to_le_bytes());
        bytes.extend(job.answer_tokens_max.to_le_bytes());
    }
    Digest::of(&bytes)
}

fn said(role: &str, content: impl Into<String>) -> ChatMessage {
    ChatMessage { role: role.to_owned(), content: content.into() }
}

/// Returns a question of the bundled model's domain with varying operands.
fn bundled(index: u64) -> String {
    let (a, b) = (index * 37 % 100, index * 61 % 97);
    match index % 5 {
        0 => format!("What is {a} + {b}?"),
        1 => format!("Subtract {b} from {a}."),
        2 => format!("How many minutes are in {} hours?", a % 20 + 1),
        3 => format!("Tell me about number {a} and {b}."),
        _ => [
            "What is the capital of Peru?",
            "Spell kitchen.",
            "What is the opposite of hot?",
            "Define river.",
        ][(a % 4) as usize]
            .to_owned(),
    }
}

const SUBJECTS: [&str; 31] = [
    "the sea",
    "an old lamp",
    "bread",
    "a night train",
    "snow",
    "the moon",
    "a key",
    "tea",
    "a river",
    "glass",
    "chess",
    "honey",
    "salt",
    "a bridge",
    "wind",
    "paper",
    "a violin",
    "copper",
    "sleep",
    "a map",
    "rust",
    "the number seven",
    "a ladder",
    "ice",
    "soap",
    "a compiler",
    "prime numbers",
    "the heart",
    "Brazil",
    "gravity",
    "a vote",
];

const FORMS: [&str; 17] = [
    "What is {}?",
    "Describe {}.",
    "Why {}?",
    "Write a poem about {}.",
    "Name three facts about {}.",
    "Where do I find {}?",
    "Translate to French: {}",
    "Who made {}?",
    "Is {} old?",
    "A joke about {}, please.",
    "How much is {}?",
    "Spell {}.",
    "{} or not?",
    "Rhyme with {}.",
    "Was ist {}?",
    "¿Qué es {}?",
    "Define {} in one line.",
];

/// Pieces of longer prompts: prose, code, figures, other scripts.
const PIECES: [&str; 13] = [
    "The harbour was quiet that morning, and the boats lay on the mud as if they had been forgotten. ",
    "fn area(width: u32, height: u32) -> u32 { width.saturating_mul(height) }\n",
    "Mix the flour with a pinch of salt, add water, and leave the dough for two hours. ",
    "{\"id\": 17, \"name\": \"Ada\", \"tags\": [\"a\", \"b\"], \"ratio\": 0.25, \"open\": true}\n",
    "Das Haus steht am Ende der Straße, hinter den Bäumen. ",
    "In 1969 two people walked on the Moon; 384,400 km lay between them and home. ",
    "for row in rows:\n    total += row['price'] * row['count']\nprint(total)\n",
    "Το πλοίο έφυγε νωρίς. ",
    "Dear Sir, the parcel that you sent on 3 May came without its lid. ",
    "Она купила хлеб и молоко. ",
    "SELECT name, count(*) FROM orders WHERE paid GROUP BY name ORDER BY 2 DESC;\n",
    "今日は雨が降っています。",
    "If all the red boxes are full and no full box is open, then the red boxes are closed. ",
];

/// Returns a conversation about anything.
fn anything(index: u64) -> Vec<ChatMessage> {
    let at = |list: &'static [&'static str], index: u64| list[(index % list.len() as u64) as usize];
    let question = at(&FORMS, index).replace("{}", at(&SUBJECTS, index / FORMS.len() as u64));
    let pieces = match index % 40 {
        0 => 4 + index / 40 % 4,
        7 | 23 => 1 + index / 40 % 2,
        _ => 0,
    };
    // Neighbouring pieces differ from one prompt to the next.
    let text: String = (0..pieces).map(|piece| at(&PIECES, index / 7 + piece * (1 + index % 5))).collect();
    // Some have the model's own system prompt, which is longer.
    let system = (index % 10 != 3).then(|| said("system", "Be brief."));
    system.into_iter().chain([said("user", format!("{text}{question}"))]).collect()
}
