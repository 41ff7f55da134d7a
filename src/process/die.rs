//! Named points at which a test can have gotap killed, to prove that the
//! target survives it there, or held up, to have something happen right then.
//! Compiled to nothing in release builds.

/// Kills this process with SIGKILL if `GOTAP_TEST_DIE_AT=<point>:<count>`
/// names this point and it is reached for the count-th time. With
/// `GOTAP_TEST_HOLD=<file>` it goes on instead, once that file is gone; when it
/// has come to the point the file says so (`here`).
#[cfg(debug_assertions)]
pub fn here(point: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static CHOSEN: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let chosen = CHOSEN.get_or_init(|| {
        let value = std::env::var("GOTAP_TEST_DIE_AT").ok()?;
        let (point, count) = value.rsplit_once(':')?;
        Some((point.to_owned(), count.parse().ok()?))
    });
    let Some((wanted, count)) = chosen else {
        return;
    };
    if wanted != point || SEEN.fetch_add(1, Ordering::Relaxed) + 1 != *count {
        return;
    }
    let Some(file) = std::env::var_os("GOTAP_TEST_HOLD") else {
        crate::sys::signals::kill_self();
        return;
    };
    let _ = std::fs::write(&file, "here");
    while std::path::Path::new(&file).exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Nothing, in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn here(_: &str) {}

/// Whether a test wants this group of sites to be one where somebody always is:
/// `GOTAP_TEST_BUSY` is its number.
#[cfg(debug_assertions)]
pub fn is_busy(group: usize) -> bool {
    std::env::var("GOTAP_TEST_BUSY").is_ok_and(|n| n.parse() == Ok(group))
}

/// Never, in release builds.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub fn is_busy(_: usize) -> bool {
    false
}
