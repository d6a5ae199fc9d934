//! Ctrl-C: the first ends the run with the best state so far, the second at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sets the flag at Ctrl-C.
pub fn on_interrupt(is_stopped: &Arc<AtomicBool>) {
    let is_stopped = Arc::clone(is_stopped);
    let handler = move || {
        if is_stopped.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    // There can be one handler only: a second run in a process goes without.
    let _ = ctrlc::set_handler(handler);
}
