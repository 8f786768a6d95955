//! As whom this process speaks to the broker: as the operator by the URL's password, or as a node by a token that
//! runs out and is replaced on the open connection.

use std::sync::Weak;

use lapin::ConnectionProperties;
use lapin::auth::{TokenAuthProvider, TokenProvider};
use lapin::types::LongString;
use tokio::sync::watch;
use tokio::time::Instant;

use super::line::{Line, answer};
use super::terms::{Refusal, short};
use infera_types::secret::Secret;

/// A node's proof of who it is, made by a gateway: a signed JWT whose `sub` becomes the broker's user name.
#[derive(Clone, Debug)]
pub struct Token {
    /// The JWT.
    pub value: Secret,
    /// After this the broker refuses it, and every publish of a connection that was made with it.
    pub expires: Instant,
}

/// As whom a connection is made.
#[derive(Clone)]
pub(super) enum Access {
    /// By the URL's user and password; declares what is missing.
    Operator,
    /// By the newest of these tokens; declares nothing, because it may not.
    Node(watch::Receiver<Token>),
}

impl Access {
    pub(super) const fn is_node(&self) -> bool {
        matches!(self, Self::Node(_))
    }

    /// How to log in now.
    ///
    /// # Errors
    /// A token that has run out: the broker would refuse it, so it isn't asked.
    pub(super) fn introduce(
        &mut self,
        properties: ConnectionProperties,
    ) -> Result<ConnectionProperties, Refusal> {
        let Self::Node(tokens) = self else { return Ok(properties) };
        let token = tokens.borrow_and_update().clone();
        if token.expires <= Instant::now() {
            return Err(Refusal::Away("this node's token has run out and no new one came".into()));
        }
        Ok(properties.with_auth_provider(TokenAuthProvider::new(Bearer(token.value))))
    }

    /// Tells the broker of each new token on the line, until one of them is gone.
    pub(super) async fn keep(self, line: Weak<Line>) {
        let Self::Node(mut tokens) = self else { return };
        while tokens.changed().await.is_ok() {
            let token = tokens.borrow_and_update().value.clone();
            let Some(line) = line.upgrade().filter(|line| line.is_up()) else { return };
            let secret = LongString::from(token.expose());
            let renewed = answer(line.connection.update_secret(secret, short("renewed"))).await;
            match renewed {
                Ok(()) => tracing::debug!(epoch = line.epoch, "the broker has the new token"),
                Err(refusal) => {
                    tracing::warn!(?refusal, "the broker didn't take the new token; connecting anew");
                    // A refusal has closed it already; silence has not.
                    let _ = answer(line.connection.close(200, short("token not renewed"))).await;
                    return;
                }
            }
        }
    }
}

/// Holds the token of this connection; lapin's provider sends it as the password of an empty user name. The provider never
/// asks for it again: [`Access::keep`] hands over the next one.
struct Bearer(Secret);

impl TokenProvider for Bearer {
    fn create_token(&self) -> Result<LongString, String> {
        Ok(LongString::from(self.0.expose()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lapin::auth::AuthProvider as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_token_that_ran_out_is_not_shown_to_the_broker() {
        let expires = Instant::now() + Duration::from_secs(60);
        let (_sender, tokens) = watch::channel(Token { value: Secret::new("t"), expires });
        let mut access = Access::Node(tokens);
        assert!(access.introduce(ConnectionProperties::default()).is_ok());
        tokio::time::advance(Duration::from_secs(60)).await;
        let refusal = access.introduce(ConnectionProperties::default()).err();
        assert!(matches!(&refusal, Some(Refusal::Away(why)) if why.contains("run out")), "{refusal:?}");
    }

    #[test]
    fn a_token_is_the_password_of_nobody() {
        let provider = TokenAuthProvider::new(Bearer(Secret::new("a.b.c")));
        assert_eq!(provider.mechanism().as_str(), "PLAIN");
        assert_eq!(provider.auth_starter().unwrap().as_bytes(), b"\0\0a.b.c");
    }
}
