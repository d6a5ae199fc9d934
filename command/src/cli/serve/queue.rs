//! Requests that wait for the engine, in the order they came. A request that nobody waits for any more is out of it at once.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sttabt::{Error, Prepared, Prune, Result};
use tokio::sync::oneshot;

use super::refusal::Refusal;

/// What the engine gives for one input.
pub struct Output {
    pub logits: Vec<f32>,
    /// Softmax or sigmoid of the logits.
    pub probs: Vec<f32>,
    /// The vector of an embedder. Other models leave it empty.
    pub embedding: Vec<f32>,
}

/// One output for each input, or which input failed and why.
pub type Answer = Result<Vec<Output>, (usize, Error)>;

struct Waiting {
    id: u64,
    prune: Prune,
    /// Those that are not computed yet.
    inputs: VecDeque<Prepared>,
    num_tokens: usize,
    outputs: Vec<Output>,
    answer: oneshot::Sender<Answer>,
    since: Instant,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    num_tokens: usize,
    next_id: u64,
    is_closed: bool,
}

pub struct Queue {
    inner: Mutex<Inner>,
    changed: Condvar,
    max_requests: usize,
    max_tokens: usize,
}

/// Inputs of one rule, for one run.
pub struct Batch {
    pub prune: Prune,
    pub inputs: Vec<Prepared>,
    /// Requests, and how many of the inputs are theirs.
    pub shares: Vec<(u64, usize)>,
    /// How long requests that come first now have waited.
    pub waited: Vec<Duration>,
}

/// A place in the queue, for as long as it is kept.
pub struct Place {
    queue: Arc<Queue>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Queue {
    /// `max_tokens` is the bound of all requests together.
    pub fn new(max_requests: usize, max_tokens: usize) -> Self {
        Self { inner: Mutex::default(), changed: Condvar::new(), max_requests, max_tokens }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Requests that wait or are computed.
    pub fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    /// Whether there is a place, before a request is made into tokens.
    pub fn check(&self) -> Result<(), Refusal> {
        if self.len() < self.max_requests { Ok(()) } else { Err(self.full()) }
    }

    fn full(&self) -> Refusal {
        let Self { max_requests, .. } = self;
        Refusal::overloaded(format!(
            "{max_requests} requests are waiting already, and no more may wait: try again later"
        ))
    }

    /// Takes a place at the end.
    pub fn enter(self: &Arc<Self>, inputs: Vec<Prepared>, prune: Prune) -> Result<Place, Refusal> {
        if inputs.is_empty() {
            return Err(Refusal::empty("there is no input"));
        }
        let mut inner = self.lock();
        let num_tokens: usize = inputs.iter().map(Prepared::num_tokens).sum();
        if inner.waiting.len() >= self.max_requests {
            return Err(self.full());
        }
        if inner.is_closed || inner.num_tokens.saturating_add(num_tokens) > self.max_tokens {
            let why = if inner.is_closed { "the server ends" } else { "too many tokens are waiting already" };
            return Err(Refusal::overloaded(format!("{why}: try again later")));
        }
        let (sender, answer) = oneshot::channel();
        let id = inner.next_id;
        inner.next_id += 1;
        inner.num_tokens += num_tokens;
        inner.waiting.push_back(Waiting {
            id,
            prune,
            outputs: Vec::with_capacity(inputs.len()),
            inputs: inputs.into(),
            num_tokens,
            answer: sender,
            since: Instant::now(),
        });
        drop(inner);
        self.changed.notify_one();
        Ok(Place { queue: Arc::clone(self), id, answer })
    }

    /// What is computed next: inputs of the first request, and of those behind it with the same rule, up to `max_tokens`. Waits until there is
    /// something; `None` when the queue is closed and empty.
    pub fn next(&self, max_tokens: usize) -> Option<Batch> {
        let mut inner = self.lock();
        while inner.waiting.is_empty() {
            if inner.is_closed {
                return None;
            }
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
        let prune = inner.waiting.front()?.prune.clone();
        let mut batch = Batch { prune, inputs: Vec::new(), shares: Vec::new(), waited: Vec::new() };
        let mut num_tokens = 0;
        for request in inner.waiting.iter_mut().filter(|request| request.prune == batch.prune) {
            let before = batch.inputs.len();
            while let Some(input) = request.inputs.front() {
                num_tokens += input.num_tokens();
                if num_tokens > max_tokens && !batch.inputs.is_empty() {
                    break;
                }
                batch.inputs.extend(request.inputs.pop_front());
            }
            let share = batch.inputs.len() - before;
            if share > 0 {
                batch.shares.push((request.id, share));
                if request.outputs.is_empty() {
                    batch.waited.push(request.since.elapsed());
                }
            }
            if num_tokens > max_tokens {
                break;
            }
        }
        Some(batch)
    }

    /// Hands the outputs of a batch to their requests, one for each input. A request of which one input failed ends with that.
    pub fn finish(&self, shares: &[(u64, usize)], outputs: Vec<Result<Output>>) {
        let mut outputs = outputs.into_iter();
        let mut inner = self.lock();
        for &(id, share) in shares {
            let own: Vec<Result<Output>> = outputs.by_ref().take(share).collect();
            // Whoever has left needs none.
            let Some(at) = inner.waiting.iter().position(|request| request.id == id) else { continue };
            let request = &mut inner.waiting[at];
            let failure = own.into_iter().find_map(|output| match output {
                Ok(output) => {
                    request.outputs.push(output);
                    None
                }
                Err(error) => Some((request.outputs.len(), error)),
            });
            if failure.is_none() && !request.inputs.is_empty() {
                continue;
            }
            if let Some(request) = inner.remove(at) {
                let _ = request.answer.send(failure.map_or(Ok(request.outputs), Err));
            }
        }
    }

    /// Nobody enters any more; those who wait are still computed.
    pub fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    /// Nobody computes any more: those who wait have no answer.
    pub fn end(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.waiting.clear();
        inner.num_tokens = 0;
    }
}

impl Inner {
    fn remove(&mut self, at: usize) -> Option<Waiting> {
        let request = self.waiting.remove(at)?;
        self.num_tokens -= request.num_tokens;
        Some(request)
    }
}

impl Place {
    /// Waits for it; `None` if nobody computes any more.
    pub async fn answer(mut self) -> Option<Answer> {
        (&mut self.answer).await.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.queue.lock();
        if let Some(at) = inner.waiting.iter().position(|request| request.id == self.id) {
            inner.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use sttabt::Input;

    use super::super::tests::model;
    use super::*;

    #[test]
    fn requests_are_refused_that_have_too_many_tokens_together() {
        let model = model();
        let queue = Arc::new(Queue::new(10, 9));
        let enter = |text: &str, num_tokens: usize| {
            let inputs = model.read(&[Input::Text(text)]).expect("an input");
            assert_eq!(inputs[0].num_tokens(), num_tokens, "{text}");
            let text = |refusal: Refusal| format!("{} {refusal}", refusal.status.as_u16());
            queue.enter(inputs, Prune::Dense).map_err(text)
        };
        let expected = "429 too many tokens are waiting already: try again later";
        let first = enter("w9 w10 w11", 5).expect("a place");
        assert_eq!(enter("w9 w10 w11", 5).map(drop), Err(expected.to_owned()));
        let second = enter("w9 w10", 4).expect("the last place");
        assert_eq!(enter("w9", 3).map(drop), Err(expected.to_owned()));
        // Who leaves makes room.
        drop((first, second));
        assert_eq!((enter("w9 w10 w11", 5).map(drop), queue.len()), (Ok(()), 0));
    }
}
