//! Shutdown is one token: stop accepting, drain with a deadline, then force. This only makes the token from the
//! operating system's signals; each part decides what draining means.

use tokio_util::sync::CancellationToken;

/// The token that every long-lived part is given. Cancelled: stop accepting and drain.
pub type Shutdown = CancellationToken;
