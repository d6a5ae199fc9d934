//! One call at a time: the computing goes on in a thread of its own, while the caller's looks for Ctrl-C and reports progress.

use std::any::Any;
use std::future::{pending, poll_fn};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::thread::{self, ThreadId};
use std::time::Duration;

use pyo3::prelude::*;
use sttabt::{Pause, RankProgress};

use crate::error::{from_core, from_panic, internal};

/// How often a waiting caller looks for Ctrl-C.
const TICK: Duration = Duration::from_millis(50);

/// Ends the run of a call, at its next layer.
#[derive(Clone, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// What an engine awaits between two layers: nothing, or when the run is to end, for ever.
    pub fn pause(&self) -> Pause {
        let stop = self.clone();
        Box::new(move || {
            let stop = stop.clone();
            Box::pin(async move {
                if stop.is_set() {
                    pending().await
                }
            })
        })
    }

    /// What a run gives; `None` for one that was ended. It is dropped, and the engine starts afresh with the next call.
    pub fn or_result<T>(&self, run: impl Future<Output = T>) -> Option<T> {
        let mut run = pin!(run);
        pollster::block_on(poll_fn(|context| match run.as_mut().poll(context) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if self.is_set() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }))
    }
}

/// Whose turn it is, of the threads that call one model.
#[derive(Default)]
pub struct Turns {
    holder: Mutex<Option<ThreadId>>,
    free: Condvar,
}

/// A turn, until it is dropped.
pub struct Turn<'a>(&'a Turns);

impl Turns {
    /// Waits for a turn. Ctrl-C ends the waiting.
    pub fn take(&self, py: Python<'_>) -> PyResult<Turn<'_>> {
        let own = thread::current().id();
        loop {
            let (is_taken, is_own) = py.detach(|| {
                let mut holder = locked(&self.holder);
                if holder.is_some_and(|holder| holder != own) {
                    holder = self.free.wait_timeout(holder, TICK).unwrap_or_else(PoisonError::into_inner).0;
                }
                let before = *holder;
                *holder = before.or(Some(own));
                (before.is_none(), before == Some(own))
            });
            if is_taken {
                return Ok(Turn(self));
            }
            if is_own {
                return Err(internal("`progress` calls the model that is computing for it"));
            }
            py.check_signals()?;
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *locked(&self.0.holder) = None;
        self.0.free.notify_one();
    }
}

/// What a mutex holds. After a panic, too: a run starts afresh.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Computes in a thread of its own, without the interpreter's lock. The caller's thread passes on what is reported to `on_progress`; an error
/// of that, or a signal whose handler raises one, ends the run.
///
/// `work` gives `None` when it was ended.
pub fn run<T: Send>(
    py: Python<'_>,
    stop: &Stop,
    mut on_progress: impl FnMut(RankProgress) -> PyResult<()>,
    work: impl FnOnce(Sender<RankProgress>) -> sttabt::Result<Option<T>> + Send,
) -> PyResult<T> {
    stop.0.store(false, Ordering::Relaxed);
    thread::scope(|scope| {
        let (sender, mut receiver) = channel();
        let worker = thread::Builder::new().name("sttabt".to_owned()).spawn_scoped(scope, move || work(sender));
        let worker = worker.map_err(|error| internal(&format!("cannot start a thread: {error}")))?;
        let mut raised = None;
        loop {
            let (received, back) = py.detach(move || (receiver.recv_timeout(TICK), receiver));
            receiver = back;
            let outcome = match received {
                Ok(progress) if raised.is_none() => on_progress(progress),
                Ok(_) | Err(RecvTimeoutError::Timeout) => Ok(()),
                // The work is done: it has dropped its end.
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if let Err(error) = outcome.and_then(|()| py.check_signals()) {
                stop.0.store(true, Ordering::Relaxed);
                raised.get_or_insert(error);
            }
        }
        let outcome = py.detach(|| worker.join());
        match (raised, outcome) {
            (Some(error), _) => Err(error),
            (None, Ok(result)) => result
                .map_err(|error| from_core(&error))?
                .ok_or_else(|| internal("internal error: a run ended without a reason")),
            (None, Err(panic)) => Err(from_panic(AsRef::<dyn Any + Send>::as_ref(&panic))),
        }
    })
}
