//! Ctrl-C: the first ends the run with the best state so far, the second at once.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};

/// Of the process: one that has several runs ends them all.
static IS_STOPPED: AtomicBool = AtomicBool::new(false);
static HANDLER: Once = Once::new();

/// From now on Ctrl-C ends runs.
pub fn on_interrupt() {
    let handler = || {
        if IS_STOPPED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    HANDLER.call_once(|| {
        let _ = ctrlc::set_handler(handler);
    });
}

/// Whether there was a Ctrl-C.
pub fn is_stopped() -> bool {
    IS_STOPPED.load(Ordering::Relaxed)
}
