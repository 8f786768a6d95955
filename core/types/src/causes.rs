//! Renders an error together with its causes as one text, because the outermost error alone says little.

use std::error::Error;

/// Returns the error's text and the texts of its causes, the outermost first. A cause whose text is already part of
/// an outer one is left out.
#[must_use]
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        let more = deeper.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = deeper.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the door: {0}")]
    struct Door(#[source] io::Error);

    #[derive(Debug, thiserror::Error)]
    #[error("no way in")]
    struct NoWay(#[source] Door);

    #[test]
    fn each_cause_is_told_once() {
        assert_eq!(causes(&NoWay(Door(io::Error::other("locked")))), "no way in: the door: locked");
        assert_eq!(causes(&io::Error::other("locked")), "locked");
    }
}
