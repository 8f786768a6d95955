//! Counts how often something happened: in a role's own numbers, which its handle and tests read, and from there in the
//! metrics, when somebody looks. What is counted and under which metric it is shown is written once, by [`counts!`](crate::counts!).

use std::sync::atomic::{AtomicU64, Ordering};

#[doc(hidden)]
pub use metrics::counter;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Counts one more.
    pub fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns how many were counted so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Defines a struct of [`Count`](crate::counts::Count)s, each with the metric that shows it and at most one label.
///
/// ```
/// infera_telemetry::counts! {
///     /// Counts what a door does.
///     pub struct Counts {
///         /// Times that it opened.
///         opened => "door_opened_total",
///         /// Visitors who were let in.
///         let_in => "door_visitors_total", "outcome" => "let_in",
///         /// Visitors who were turned away.
///         turned_away => "door_visitors_total", "outcome" => "turned_away",
///     }
/// }
///
/// let counts = Counts::default();
/// counts.opened.add_one();
/// assert_eq!((counts.opened.get(), counts.let_in.get()), (1, 0));
/// // Brings the three metrics up to date, for whoever collects them.
/// counts.observe();
/// ```
#[macro_export]
macro_rules! counts {
    (
        $(#[$about:meta])*
        $visibility:vis struct $name:ident {
            $($(#[$doc:meta])* $field:ident => $metric:expr $(, $label:literal => $word:literal)?),* $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Debug, Default)]
        $visibility struct $name {
            $($(#[$doc])* pub $field: $crate::counts::Count,)*
        }

        impl $name {
            /// Brings the metrics up to date.
            $visibility fn observe(&self) {
                $($crate::counts::counter!($metric $(, $label => $word)?).absolute(self.$field.get());)*
            }
        }
    };
}
