//! Reads the header `Server-Timing`, by which a gateway tells what it did with a request's time.

/// The entries of one reply.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTiming(Vec<(String, f64)>);

impl ServerTiming {
    /// Reads a header's value, such as `gateway;dur=0.125, wait;dur=5`. Returns none if an entry has no name or
    /// doesn't begin with its duration.
    #[must_use]
    pub fn parse(value: &str) -> Option<Self> {
        let entry = |text: &str| {
            let (name, rest) = text.trim().split_once(";dur=")?;
            let cost = rest.split(';').next()?.parse().ok()?;
            (!name.is_empty()).then(|| (name.to_owned(), cost))
        };
        value.split(',').map(entry).collect::<Option<_>>().map(Self)
    }

    /// Returns the time of one entry, in milliseconds.
    #[must_use]
    pub fn ms(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|(entry, _)| entry == name).map(|(_, cost)| *cost)
    }

    /// Returns the sum of all entries, in milliseconds.
    #[must_use]
    pub fn sum_ms(&self) -> f64 {
        self.0.iter().map(|(_, cost)| cost).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_and_added_up() {
        let timing =
            ServerTiming::parse("gateway;dur=0.125, accept;dur=2;desc=\"commit\",wait;dur=5.5").unwrap();
        assert_eq!(
            ["gateway", "accept", "wait", "total"].map(|name| timing.ms(name)),
            [Some(0.125), Some(2.0), Some(5.5), None]
        );
        assert!((timing.sum_ms() - 7.625).abs() < 1e-9);
    }

    #[test]
    fn an_entry_without_a_time_is_not_read_as_zero() {
        for wrong in ["", "gateway", "gateway;dur=", ";dur=1", "gateway;dur=1, wait"] {
            assert_eq!(ServerTiming::parse(wrong), None, "{wrong}");
        }
    }
}
