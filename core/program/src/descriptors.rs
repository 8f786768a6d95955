//! Raises the limit on the files and sockets that a program may have open at once.
//!
//! The soft limit that a shell or a service manager sets, often 1,024, is meant for old programs that cannot handle
//! more. The hard limit is what the machine's operator allows.

use rlimit::Resource;

/// Raises this process's limit on open files as far as its operator allows, and returns it; none if the operating
/// system does not report it. Programs call it once, at start.
pub fn raise() -> Option<u64> {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => Some(limit),
        Err(error) => {
            let limit = Resource::NOFILE.get_soft().ok();
            tracing::warn!(%error, limit, "the limit on open files cannot be raised; it stays at its current value");
            limit
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let hard = Resource::NOFILE.get_hard().unwrap();
        // Lower than the hard limit, yet enough for tests that run at the same time.
        let lower = hard.min(4_096).saturating_sub(1);
        Resource::NOFILE.set(lower, hard).unwrap();
        let raised = raise().unwrap();
        assert!(raised > lower, "{raised} of {hard}");
        assert_eq!(Resource::NOFILE.get_soft().unwrap(), raised);
    }
}
