//! Chunks on several threads at the same time.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use super::*;
use crate::error::Error;
use crate::platform::PauseFuture;

const OUTPUTS: Outputs = Outputs { token_scores: true, attention_maps: true, sigmoid: false, threshold: None };

/// A pause for every layer of every chunk, each of which is waited for `num_polls` times; how many there were.
fn counted_pause(num_polls: usize) -> (Pause, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    let pause = move || -> PauseFuture {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut rest = num_polls;
        Box::pin(std::future::poll_fn(move |context| {
            context.waker().wake_by_ref();
            rest = rest.saturating_sub(1);
            if rest == 0 { Poll::Ready(()) } else { Poll::Pending }
        }))
    };
    (Box::new(pause), count)
}

/// 24 texts of 19 to 92 tokens, or 90 pictures of 37: four parts and more where there are threads for them.
fn many((model, samples): &(Model, Samples)) -> Vec<Tokens> {
    match samples {
        Samples::Texts(texts) => {
            (0..24).map(|index| model.prepare(index, &Input::Text(&texts[index % 3])).unwrap()).collect()
        }
        Samples::Pictures(pictures) => {
            (0..90).map(|index| model.prepare(index, &Input::Image(&pictures[index % 3])).unwrap()).collect()
        }
    }
}

fn session(model: &Model) -> Session<CpuBackend> {
    Session::new_now(CpuBackend::new(), model, None).unwrap()
}

fn on_threads<T: Send>(num_threads: usize, run: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(num_threads).build().unwrap().install(run)
}

/// Whatever the number of threads and however often a run pauses: the same results, to the last bit.
#[test]
fn threads_and_pauses_change_no_result() {
    let subjects = [tiny_bert(), tiny_vit()];
    let rules = ["dense", "topk:0.5", "forward:0.5", "concrete"];
    for (subject, rule) in subjects.iter().flat_map(|subject| rules.map(|rule| (subject, rule))) {
        let (model, prune) = (&subject.0, rule.parse().unwrap());
        let (pause, _) = counted_pause(1);
        let job = Job { model, prune: &prune, outputs: &OUTPUTS, pause: &pause };
        let expected = pollster::block_on(session(model).classify(job, std::iter::once(Ok(many(subject))))).unwrap();
        for (num_threads, num_polls) in [(1, 1), (2, 1), (3, 2), (8, 1), (8, 3)] {
            let (pause, _) = counted_pause(num_polls);
            let job = Job { pause: &pause, ..job };
            let results = on_threads(num_threads, || {
                pollster::block_on(session(model).classify_on_all_threads(job, many(subject))).unwrap()
            });
            assert!(results == expected, "{rule}, {num_threads} threads, {num_polls} polls");
        }
    }
}

/// With a first pause that does not end, so many pauses begin as chunks run at the same time. Dropped there, the run leaves
/// the next one all threads, and nothing in its memory that shows.
#[test]
fn every_thread_has_a_chunk_of_its_own() {
    let subject = tiny_bert();
    let (model, prune) = (&subject.0, "topk:0.5".parse().unwrap());
    let (ready, _) = counted_pause(1);
    let job = Job { model, prune: &prune, outputs: &OUTPUTS, pause: &ready };
    let expected = pollster::block_on(session(model).classify(job, std::iter::once(Ok(many(&subject))))).unwrap();
    for (num_threads, num_chunks) in [(1, 1), (2, 2), (3, 3), (8, 5)] {
        on_threads(num_threads, || {
            let mut session = session(model);
            let (pause, count) = counted_pause(usize::MAX);
            {
                let endless = Job { pause: &pause, ..job };
                let mut run = std::pin::pin!(session.classify_on_all_threads(endless, many(&subject)));
                let mut context = Context::from_waker(Waker::noop());
                assert!(run.as_mut().poll(&mut context).is_pending());
                assert!(run.as_mut().poll(&mut context).is_pending());
            }
            assert_eq!(count.load(Ordering::Relaxed), num_chunks, "{num_threads} threads");
            assert_eq!(session.backend().num_threads(), num_threads);
            let results = pollster::block_on(session.classify_on_all_threads(job, many(&subject))).unwrap();
            assert!(results == expected, "{num_threads} threads");
        });
    }
}

/// One chunk that fails fails the request, and no chunk is begun after it; the next request is not touched by it.
#[test]
fn a_failed_chunk_ends_the_request() {
    let subject = tiny_vit();
    let (model, prune) = (&subject.0, "topk:0.5".parse().unwrap());
    on_threads(2, || {
        // A chunk for each picture.
        let max_buffer_bytes = Some(row_bytes(model) * 37);
        let mut session = Session::new_now(CpuBackend::new(), model, max_buffer_bytes).unwrap();
        let mut run = |poisoned: Option<usize>| {
            let mut tokens = many(&subject);
            if let Some(Tokens::Patches { rows, .. }) = poisoned.map(|sample| &mut tokens[sample]) {
                rows.fill(f32::MAX);
            }
            // Both threads wait for each other at every layer.
            let (pause, count) = counted_pause(2);
            let job = Job { model, prune: &prune, outputs: &OUTPUTS, pause: &pause };
            let results = pollster::block_on(session.classify_on_all_threads(job, tokens));
            (results.map_err(|error| error.to_string()), count.load(Ordering::Relaxed))
        };
        let (good, num_pauses) = run(None);
        let error = Error::Overflow { rule: "topk:0.5".to_owned() }.to_string();
        for sample in [0, 44, 89] {
            assert_eq!(run(Some(sample)).0.unwrap_err(), error, "sample {sample}");
        }
        let (_, num_pauses_of_failed) = run(Some(0));
        // Of the other thread's chunk, and at most of one that it had begun.
        assert!(num_pauses_of_failed <= num_pauses / 90 * 3, "{num_pauses_of_failed} of {num_pauses}");
        assert!(run(None).0 == good);
    });
}
