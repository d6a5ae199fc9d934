//! Ctrl-C: the first ends the run with the best state so far, the second at once.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};

/// Of the process: one that has several runs ends them all.
static IS_STOPPED: AtomicBool = AtomicBool::new(false);
static IS_HANDLED: AtomicBool = AtomicBool::new(false);

/// From now on Ctrl-C ends runs.
pub fn on_interrupt() -> Result<()> {
    if IS_HANDLED.swap(true, Ordering::Relaxed) {
        return Ok(());
    }
    let handler = || {
        if IS_STOPPED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(|error| Error::Failed(format!("Ctrl-C cannot be caught: {error}")))
}

/// Whether there was a Ctrl-C.
pub fn is_stopped() -> bool {
    IS_STOPPED.load(Ordering::Relaxed)
}
