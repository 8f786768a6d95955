//! Logs. Placeholder until the subscriber lands.
