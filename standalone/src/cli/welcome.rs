//! What a newcomer is told when the network is ready.

use infera_types::ids::ModelName;

use crate::config::Config;
use crate::known_models;
use crate::network::Network;

/// Returns the first line of the welcome for a network with this many built-in nodes: whether it can answer, and
/// what.
fn standing(nodes: u32, models: &[ModelName]) -> String {
    let model = models.iter().map(ModelName::as_str).collect::<Vec<_>>().join(" and ");
    match nodes {
        0 => format!(
            "Infera runs and is not ready: nodes.count is 0, so no node serves {model}, and accepted jobs will not be answered."
        ),
        1 | 2 => format!(
            "Infera is ready for unverified answers alone: {nodes} of the 3 nodes that verification needs serve {model}."
        ),
        _ => format!("Infera is ready: {nodes} nodes of {nodes} owners serve {model}."),
    }
}

/// The reader of the welcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    /// A person in front of a terminal.
    Person,
    /// A journal, a file or a program, which keeps what it reads.
    Journal,
}

/// Returns what a newcomer needs when the network is ready: the address, the key, and a request to paste. A journal
/// is not told the key, but the file that holds it and a request that reads it from there.
#[must_use]
pub fn welcome(network: &Network, config: &Config, reader: Reader) -> String {
    let url = format!("http://{}", network.address);
    let standing = standing(config.nodes.count, &network.models);
    let model = network.models.first().map_or("", ModelName::as_str);
    let (secret, note) = (network.key.expose(), config.data.join("local.env"));
    let note = note.display();
    let first = config.engine.each().into_iter().next().map(|engine| engine.folder);
    let question = known_models::question(&first.unwrap_or_default());
    let (key, shell) = match reader {
        Reader::Person => {
            let curl =
                format!("curl -s {url}/v1/chat/completions \\\n    -H 'Authorization: Bearer {secret}'");
            (format!("{secret}   (both are in {note})"), curl)
        }
        Reader::Journal => {
            let curl = "curl -s $INFERA_URL/v1/chat/completions \\\n    -H \"Authorization: Bearer $INFERA_API_KEY\"";
            (format!("in {note}, with the address"), format!(". {note}\n  {curl}"))
        }
    };
    format!(
        r#"
{standing}

  address  {url}
  key      {key}

Paste this into another terminal:

  {shell} -H 'Content-Type: application/json' \
    -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "{question}"}}], "verification": {{"quorum": 3}}}}'

Ctrl-C ends it; what was accepted is kept."#
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_without_nodes_is_not_called_ready() {
        let models = [ModelName::new("m"), ModelName::new("n")];
        for (nodes, begins) in [
            (0, "Infera runs and is not ready: nodes.count is 0"),
            (2, "Infera is ready for unverified answers alone: 2 "),
            (3, "Infera is ready: 3 nodes of 3 owners serve m and n."),
        ] {
            assert!(standing(nodes, &models).starts_with(begins), "{}", standing(nodes, &models));
        }
    }
}
