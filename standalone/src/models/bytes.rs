//! Figures of bytes for people.

/// Returns bytes as a person reads them.
pub(super) fn shown(bytes: u64) -> String {
    const MEBI: u64 = 1 << 20;
    match bytes {
        0..MEBI => format!("{} KiB", bytes.div_ceil(1 << 10)),
        MEBI..10_737_418_240 => format!("{} MiB", bytes / MEBI),
        _ => format!("{} GiB", bytes >> 30),
    }
}
