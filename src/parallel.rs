//! The one place that knows about threads: work that is cut into tasks. It knows no backend.
//!
//! Three things always hold:
//! 1. Every task is computed alone, by one thread: a result does not depend on the number of threads.
//! 2. A caller takes tasks itself and ends with its own work: it never begins another caller's while its own is not done.
//! 3. A thread that looks for work, or computes tasks, is counted as awake once; one that is held by long work is not counted.
//!
//! A pass through a model is some hundred kernels of 20 µs to 2 ms. Rayon alone puts its threads to sleep between
//! them, and waking one costs as much as a small kernel. So they keep looking for work for about a millisecond. The
//! caller takes tasks too instead of waiting.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

/// Tasks per thread, so that a thread that was held up leaves some of its share to the others.
const TASKS_PER_THREAD: usize = 4;
/// Blocks of rows per thread. More, because they are whole tiles: with few rows, one block more or less is much of a thread's share.
const ROW_BLOCKS_PER_THREAD: usize = 2 * TASKS_PER_THREAD;

/// A fair share of the threads for each of the callers that compute at the same time; clones count together.
#[derive(Debug, Clone, Default)]
pub struct Threads {
    num_callers: Arc<AtomicUsize>,
}

/// Counts as a caller until it is dropped.
#[derive(Debug)]
pub struct Caller(Arc<AtomicUsize>);

impl Threads {
    /// One caller more: the threads are shared out anew, from the next kernel on.
    pub fn enter(&self) -> Caller {
        self.num_callers.fetch_add(1, Ordering::Relaxed);
        Caller(Arc::clone(&self.num_callers))
    }

    fn num_callers(&self) -> usize {
        self.num_callers.load(Ordering::Relaxed).max(1)
    }

    /// Threads for one caller's kernel, rounded up, so that no thread stays idle.
    pub fn threads_per_caller(&self) -> usize {
        num_threads().div_ceil(self.num_callers())
    }

    /// Into how many tasks a kernel on so many threads should cut its work, if it is large.
    pub fn num_tasks(num_threads: usize) -> usize {
        if num_threads == 1 { 1 } else { num_threads * TASKS_PER_THREAD }
    }

    /// Computes every task, on the caller's share of the threads. Each is computed alone, so the result does not depend on
    /// their number.
    #[cfg(feature = "threads")]
    pub fn for_each<T: Send>(&self, tasks: Vec<T>, compute: impl Fn(T) + Sync) {
        pool::for_each(self.num_callers(), tasks, compute);
    }

    /// Computes every task, one after another.
    #[cfg(not(feature = "threads"))]
    pub fn for_each<T>(&self, tasks: Vec<T>, compute: impl Fn(T)) {
        for_each(tasks, compute);
    }

    /// Calls `compute(first_row, values)` for blocks of rows of `stride` values; every block but the last has whole tiles.
    pub fn for_each_block<T: Send>(
        &self,
        values: &mut [T],
        stride: usize,
        tile_rows: usize,
        compute: impl Fn(usize, &mut [T]) + Sync + Send,
    ) {
        let num_blocks = match self.threads_per_caller() {
            1 => 1,
            threads => threads * ROW_BLOCKS_PER_THREAD,
        };
        let rows_per_block = (values.len() / stride).div_ceil(num_blocks).max(1).next_multiple_of(tile_rows);
        let blocks = values.chunks_mut(rows_per_block * stride).enumerate().collect();
        self.for_each(blocks, |(block, values): (usize, &mut [T])| compute(block * rows_per_block, values));
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Threads that take tasks.
pub fn num_threads() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    return 1;
}

/// Computes every task, on all threads.
#[cfg(feature = "threads")]
pub fn for_each<T: Send>(tasks: Vec<T>, compute: impl Fn(T) + Sync) {
    pool::for_each(1, tasks, compute);
}

/// Computes every task, one after another.
#[cfg(not(feature = "threads"))]
pub fn for_each<T>(tasks: Vec<T>, compute: impl Fn(T)) {
    tasks.into_iter().for_each(compute);
}

/// Runs futures until all have ended, at the same time as far as there are threads.
///
/// Which of them a wake-up is for is not known, so it polls all; it returns to the caller when all wait.
pub async fn all<F: Future<Output = ()> + Send>(futures: impl Iterator<Item = F>) {
    let mut futures: Vec<Option<Pin<Box<F>>>> = futures.map(|future| Some(Box::pin(future))).collect();
    std::future::poll_fn(move |context| {
        let waker = context.waker();
        on_a_thread(|| {
            for_each(futures.iter_mut().collect(), |slot: &mut Option<Pin<Box<F>>>| {
                let poll = |future: &mut Pin<Box<F>>| future.as_mut().poll(&mut Context::from_waker(waker));
                if slot.as_mut().is_some_and(|future| hold(|| poll(future)).is_ready()) {
                    *slot = None;
                }
            });
        });
        futures.retain(Option::is_some);
        if futures.is_empty() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[cfg(feature = "threads")]
use pool::{hold, on_a_thread};

#[cfg(not(feature = "threads"))]
fn hold<T>(run: impl FnOnce() -> T) -> T {
    run()
}

#[cfg(not(feature = "threads"))]
fn on_a_thread(run: impl FnOnce()) {
    run();
}

/// Rayon's threads.
#[cfg(feature = "threads")]
mod pool {
    use std::cell::Cell;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// About 100 µs: a caller that found no task left looks so long for the last ones' end before it goes to sleep.
    const MAX_LOOKS_FOR_THE_END: usize = 20_000;
    /// About a millisecond.
    const MAX_LOOKS_FOR_WORK: usize = 20_000;

    /// Threads that look for work, or compute a kernel's tasks.
    static NUM_AWAKE: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        /// Whether this thread is one of them.
        static IS_AWAKE: Cell<bool> = const { Cell::new(false) };
        /// Whether this thread waits for the end of a kernel of its own.
        static IS_CALLER: Cell<bool> = const { Cell::new(false) };
    }

    /// Computes every task, on the share of the threads that one of so many callers has.
    pub fn for_each<T: Send>(num_callers: usize, tasks: Vec<T>, compute: impl Fn(T) + Sync) {
        let num_threads = rayon::current_num_threads();
        let num_helpers = (num_threads.div_ceil(num_callers) - 1).min(tasks.len().saturating_sub(1));
        if num_helpers == 0 {
            return tasks.into_iter().for_each(compute);
        }
        keep_awake((num_helpers * num_callers).min(num_threads.saturating_sub(num_callers)));
        let num_helping = AtomicUsize::new(0);
        let tasks = Mutex::new(tasks.into_iter());
        // It is never poisoned: no task is computed under the lock.
        let next = || tasks.lock().ok()?.next();
        let work = || {
            while let Some(task) = next() {
                compute(task);
            }
        };
        let help = || {
            num_helping.fetch_add(1, Ordering::Relaxed);
            work();
            num_helping.fetch_sub(1, Ordering::Release);
        };
        let was_caller = IS_CALLER.replace(true);
        let _no_caller = OnDrop(|| IS_CALLER.set(was_caller));
        rayon::in_place_scope(|scope| {
            for _ in 0..num_helpers {
                scope.spawn(|_| help());
            }
            work();
            // Not left to Rayon at once, which would begin other work meanwhile: another caller's, and that may take long.
            for _ in 0..MAX_LOOKS_FOR_THE_END {
                if num_helping.load(Ordering::Acquire) == 0 {
                    break;
                }
                std::hint::spin_loop();
            }
        });
    }

    /// Has so many threads look for work until there has been none for about a millisecond.
    fn keep_awake(num_threads: usize) {
        let num_missing = num_threads.saturating_sub(NUM_AWAKE.load(Ordering::Relaxed));
        NUM_AWAKE.fetch_add(num_missing, Ordering::Relaxed);
        for _ in 0..num_missing {
            rayon::spawn(|| {
                let _not_counted = OnDrop(|| {
                    NUM_AWAKE.fetch_sub(1, Ordering::Relaxed);
                });
                // Whoever waits for the end of a kernel has no time for that, and nobody counts twice.
                if !IS_CALLER.get() && !IS_AWAKE.get() {
                    IS_AWAKE.set(true);
                    let _not_awake = OnDrop(|| IS_AWAKE.set(false));
                    look_for_work();
                }
            });
        }
    }

    fn look_for_work() {
        let mut looks = 0;
        while looks < MAX_LOOKS_FOR_WORK {
            if rayon::yield_now() == Some(rayon::Yield::Executed) {
                looks = 0;
            } else {
                looks += 1;
                std::hint::spin_loop();
            }
        }
    }

    /// Callers that are none of Rayon's threads, and compute.
    static NUM_OUTSIDE: AtomicUsize = AtomicUsize::new(0);

    /// Runs on one of Rayon's threads if no other caller from outside computes, else on this one.
    ///
    /// A Rayon thread takes back a helper's job that nobody has begun. Any other caller would have to wait for it, and long where another
    /// program holds the helper's core. Two such requests at once would break the second promise above: a thread that waits for the end
    /// of one might begin the other.
    pub fn on_a_thread(run: impl FnOnce() + Send) {
        run_on_a_thread(&NUM_OUTSIDE, run);
    }

    pub(super) fn run_on_a_thread(num_outside: &AtomicUsize, run: impl FnOnce() + Send) {
        // A single one has no helpers.
        if rayon::current_thread_index().is_some() || rayon::current_num_threads() == 1 {
            return run();
        }
        let is_alone = num_outside.fetch_add(1, Ordering::Relaxed) == 0;
        let _not_counted = OnDrop(|| {
            num_outside.fetch_sub(1, Ordering::Relaxed);
        });
        if is_alone { rayon::scope(|_| run()) } else { run() }
    }

    /// Runs what takes so long that its thread does not count as awake meanwhile: it computes no tasks of others.
    pub fn hold<T>(run: impl FnOnce() -> T) -> T {
        let was_awake = IS_AWAKE.replace(false);
        NUM_AWAKE.fetch_sub(usize::from(was_awake), Ordering::Relaxed);
        let _awake_again = OnDrop(|| {
            NUM_AWAKE.fetch_add(usize::from(was_awake), Ordering::Relaxed);
            IS_AWAKE.set(was_awake);
        });
        run()
    }

    /// Calls a function when it is dropped, after a panic too.
    struct OnDrop<F: Fn()>(F);

    impl<F: Fn()> Drop for OnDrop<F> {
        fn drop(&mut self) {
            self.0();
        }
    }
}

#[cfg(test)]
mod tests {
    /// One request at a time is handed over; who comes meanwhile computes in place, and so does whoever has one thread alone.
    #[cfg(feature = "threads")]
    #[test]
    fn one_caller_from_outside_is_handed_over() {
        use super::pool::run_on_a_thread;
        use std::sync::atomic::AtomicUsize;

        let num_outside = AtomicUsize::new(0);
        let is_inside = || rayon::current_thread_index().is_some();
        let has_helpers = rayon::current_num_threads() > 1;
        for _ in 0..3 {
            let mut found = [false; 3];
            let [first, second, nested] = &mut found;
            run_on_a_thread(&num_outside, || {
                *first = is_inside();
                run_on_a_thread(&num_outside, || *nested = is_inside());
                std::thread::scope(|scope| {
                    scope.spawn(|| run_on_a_thread(&num_outside, || *second = is_inside()));
                });
            });
            assert_eq!(found, [has_helpers, false, has_helpers]);
        }
    }

    #[cfg(feature = "threads")]
    #[test]
    fn callers_share_the_threads() {
        use super::{Caller, Threads};

        let pool = rayon::ThreadPoolBuilder::new().num_threads(8).build().unwrap();
        pool.install(|| {
            let threads = Threads::default();
            let fork = threads.clone();
            assert_eq!(threads.threads_per_caller(), 8, "of a caller who does not say so");
            let callers: Vec<Caller> = [8, 4, 3, 2, 2, 2, 2, 1, 1]
                .map(|expected| {
                    let caller = fork.enter();
                    assert_eq!(threads.threads_per_caller(), expected);
                    caller
                })
                .into();
            drop(callers);
            assert_eq!(threads.threads_per_caller(), 8);
        });
    }
}
