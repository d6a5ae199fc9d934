//! Ctrl-C: the first asks for an end after the running call, the second ends at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::command::{Failure, Result};

/// As shells report an interrupted process.
pub const EXIT_CODE: i32 = 130;

/// Whether the user wants an end.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Listens to Ctrl-C from now on.
    pub fn listen() -> Result<Self> {
        let stop = Self(Arc::new(AtomicBool::new(false)));
        let flag = stop.clone();
        ctrlc::set_handler(move || {
            if flag.0.swap(true, Ordering::Relaxed) {
                std::process::exit(EXIT_CODE);
            }
        })
        .map_err(|error| Failure::Error(format!("cannot listen to Ctrl-C: {error}")))?;
        Ok(stop)
    }

    pub fn is_wanted(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
