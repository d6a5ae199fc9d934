//! The one place that knows about threads: work that is cut into tasks.
//!
//! A pass through a model is some hundred kernels of 20 µs to 2 ms. Rayon alone puts its threads to sleep between them, and waking
//! one costs as much as a small kernel; so they are kept looking for work for about a millisecond, and the caller takes
//! tasks too instead of waiting.

use super::CpuMatrix;
use super::product::MAX_TILE_ROWS;
use crate::backend::MatrixShape;

/// Tasks per thread, so that a thread that was held up leaves some of its share to the others.
const TASKS_PER_THREAD: usize = 4;

/// Threads that take tasks.
pub fn num_threads() -> usize {
    #[cfg(feature = "threads")]
    return rayon::current_num_threads();
    #[cfg(not(feature = "threads"))]
    return 1;
}

/// Into how many tasks a kernel should cut its work, if it is large.
pub fn num_tasks() -> usize {
    match num_threads() {
        1 => 1,
        threads => threads * TASKS_PER_THREAD,
    }
}

/// Computes every task, on all threads. Each is computed alone, so the result does not depend on their number.
#[cfg(feature = "threads")]
pub fn for_each<T: Send>(tasks: Vec<T>, compute: impl Fn(T) + Sync) {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    /// About 100 µs: a caller that found no task left looks so long for the last ones' end before it goes to sleep.
    const MAX_LOOKS: usize = 20_000;

    let num_helpers = (num_threads() - 1).min(tasks.len().saturating_sub(1));
    if num_helpers == 0 {
        return tasks.into_iter().for_each(compute);
    }
    keep_awake(num_helpers);
    let unfinished = AtomicUsize::new(tasks.len());
    let tasks = Mutex::new(tasks.into_iter());
    // A poisoned lock means that a task has panicked, which ends the scope anyway.
    let next = || tasks.lock().ok()?.next();
    let work = || {
        while let Some(task) = next() {
            compute(task);
            unfinished.fetch_sub(1, Ordering::Release);
        }
    };
    rayon::in_place_scope(|scope| {
        for _ in 0..num_helpers {
            scope.spawn(|_| work());
        }
        work();
        for _ in 0..MAX_LOOKS {
            if unfinished.load(Ordering::Acquire) == 0 {
                break;
            }
            std::hint::spin_loop();
        }
    });
}

/// Computes every task, one after another.
#[cfg(not(feature = "threads"))]
pub fn for_each<T>(tasks: Vec<T>, compute: impl Fn(T)) {
    tasks.into_iter().for_each(compute);
}

/// Has so many of Rayon's threads look for work until there has been none for about a millisecond.
#[cfg(feature = "threads")]
fn keep_awake(num_threads: usize) {
    use std::sync::atomic::{AtomicUsize, Ordering};

    const MAX_LOOKS: usize = 20_000;
    static NUM_AWAKE: AtomicUsize = AtomicUsize::new(0);

    while NUM_AWAKE.load(Ordering::Relaxed) < num_threads {
        NUM_AWAKE.fetch_add(1, Ordering::Relaxed);
        rayon::spawn(|| {
            let mut looks = 0;
            while looks < MAX_LOOKS {
                if rayon::yield_now() == Some(rayon::Yield::Executed) {
                    looks = 0;
                } else {
                    looks += 1;
                    std::hint::spin_loop();
                }
            }
            NUM_AWAKE.fetch_sub(1, Ordering::Relaxed);
        });
    }
}

/// Calls `compute(first_row, values)` for blocks of the first `num_rows` rows of `output`.
pub fn for_each_block(output: &mut CpuMatrix, num_rows: usize, compute: impl Fn(usize, &mut [f32]) + Sync + Send) {
    let stride = output.stride();
    let rows_per_block = num_rows.div_ceil(num_tasks()).max(1).next_multiple_of(MAX_TILE_ROWS);
    let blocks = output.values[..num_rows * stride].chunks_mut(rows_per_block * stride).enumerate().collect();
    for_each(blocks, |(block, values): (usize, &mut [f32])| compute(block * rows_per_block, values));
}
