//! Job-bound sampling. Placeholder until it lands.
