//! Mails that prove addresses and bring lost keys back. `post` takes what clients ask for and show, `code` is what a mail
//! carries, `letters` is what it says, and `sender` sends what the ledger's outbox has, beside all requests.
//!
//! A request that asks for a mail does the same for every address: it stores a line. Whether the address has an account, and
//! whether a mail goes out at all, is found by the sender.

mod code;
mod letters;
mod post;
mod sender;

use std::sync::Arc;

use infera_ledger::{MailBook, MailOutbox};
use infera_mail::{MailConfig, Mailer};
use tokio::sync::Notify;

pub(crate) use code::MailCode;
pub(crate) use post::Post;
pub(crate) use sender::Sender;

/// What sending mail needs from outside: the ledger's two halves, the mail server, and the settings.
#[derive(Clone, Debug)]
pub struct Mail {
    book: Arc<dyn MailBook>,
    outbox: Arc<dyn MailOutbox>,
    mailer: Arc<dyn Mailer>,
    config: MailConfig,
}

impl Mail {
    /// Puts the parts together. The settings are those that the mailer was made of.
    #[must_use]
    pub fn new<L>(ledger: &Arc<L>, mailer: Arc<dyn Mailer>, config: MailConfig) -> Self
    where
        L: MailBook + MailOutbox + 'static,
    {
        let (book, outbox) = (Arc::clone(ledger) as _, Arc::clone(ledger) as _);
        Self { book, outbox, mailer, config }
    }

    /// Makes the half that requests use, and the one that sends.
    pub(crate) fn halves(self) -> (Post, Sender) {
        let wake = Arc::<Notify>::default();
        let post = Post::new(self.book, &self.config, Arc::clone(&wake));
        (post, Sender::new(self.outbox, self.mailer, &self.config, wake))
    }
}
