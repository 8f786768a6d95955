//! Configuration: defaults < file < environment < flags. Placeholder until the loader lands.
