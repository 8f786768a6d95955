//! How this process logs in to the broker: as the operator with the URL's password, or as a node with a token that
//! expires and is replaced on the open connection.

use std::sync::Weak;

use lapin::ConnectionProperties;
use lapin::auth::{TokenAuthProvider, TokenProvider};
use lapin::types::LongString;
use tokio::sync::watch;
use tokio::time::Instant;

use super::line::{Line, answer};
use super::terms::{Refusal, short};
use infera_types::secret::Secret;

/// A node's proof of identity, made by a gateway: a signed JWT whose `sub` becomes the broker's user name.
#[derive(Clone, Debug)]
pub struct Token {
    /// The JWT.
    pub value: Secret,
    /// When it expires. After that the broker refuses it, and every publish of a connection that was made with it.
    pub expires: Instant,
}

/// The identity under which a connection is made.
#[derive(Clone)]
pub(super) enum Access {
    /// The URL's user and password; declares what is missing.
    Operator,
    /// The newest of these tokens; declares nothing, because nodes lack permission.
    Node(watch::Receiver<Token>),
}

impl Access {
    pub(super) const fn is_node(&self) -> bool {
        matches!(self, Self::Node(_))
    }

    /// Returns the credentials to log in with now.
    ///
    /// # Errors
    /// The token has expired: the broker would refuse it, so no connection is tried.
    pub(super) fn introduce(
        &mut self,
        properties: ConnectionProperties,
    ) -> Result<ConnectionProperties, Refusal> {
        let Self::Node(tokens) = self else { return Ok(properties) };
        let token = tokens.borrow_and_update().clone();
        if token.expires <= Instant::now() {
            return Err(Refusal::Away("this node's token has expired and no new one has come".into()));
        }
        Ok(properties.with_auth_provider(TokenAuthProvider::new(Bearer(token.value))))
    }

    /// Hands each new token to the broker on the line, until the tokens' sender or the line is gone.
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
                    tracing::warn!(?refusal, "the broker refused the new token; reconnecting");
                    // After a refusal the broker has closed the connection already; after a silence it has not.
                    let _ = answer(line.connection.close(200, short("token not renewed"))).await;
                    return;
                }
            }
        }
    }
}

/// Holds this connection's token; lapin's provider sends it as the password of an empty user name. The provider never
/// asks for another: [`Access::keep`] hands over the next one.
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
        assert!(matches!(&refusal, Some(Refusal::Away(why)) if why.contains("expired")), "{refusal:?}");
    }

    #[test]
    fn a_token_is_the_password_of_nobody() {
        let provider = TokenAuthProvider::new(Bearer(Secret::new("a.b.c")));
        assert_eq!(provider.mechanism().as_str(), "PLAIN");
        assert_eq!(provider.auth_starter().unwrap().as_bytes(), b"\0\0a.b.c");
    }
}
