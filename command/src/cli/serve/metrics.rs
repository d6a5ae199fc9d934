//! What `/metrics` counts, in Prometheus' text format. Names are those of text-embeddings-inference, as far as they mean the same.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sttabt::Flops;

/// Upper bounds of durations, in seconds.
const SECONDS: [f64; 15] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 100.0];
/// Upper bounds of counts, of inputs or of tokens.
const COUNTS: [f64; 9] = [1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0, 65536.0];

#[derive(Default)]
pub struct Metrics(Mutex<Counts>);

struct Counts {
    requests: BTreeMap<&'static str, u64>,
    successes: BTreeMap<&'static str, u64>,
    failures: BTreeMap<&'static str, u64>,
    duration: Histogram,
    queue_duration: Histogram,
    inference_duration: Histogram,
    batch_size: Histogram,
    batch_tokens: Histogram,
    flops: f64,
    dense_flops: f64,
}

impl Default for Counts {
    fn default() -> Self {
        let [seconds, counts] = [|| Histogram::new(&SECONDS), || Histogram::new(&COUNTS)];
        Self {
            requests: BTreeMap::new(),
            successes: BTreeMap::new(),
            failures: BTreeMap::new(),
            duration: seconds(),
            queue_duration: seconds(),
            inference_duration: seconds(),
            batch_size: counts(),
            batch_tokens: counts(),
            flops: 0.0,
            dense_flops: 0.0,
        }
    }
}

struct Histogram {
    bounds: &'static [f64],
    /// For each bound, how many values are not above it.
    counts: Vec<u64>,
    count: u64,
    sum: f64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len()], count: 0, sum: 0.0 }
    }

    fn add(&mut self, value: f64) {
        self.count += 1;
        self.sum += value;
        let counts = self.counts.iter_mut().zip(self.bounds).filter(|(_, bound)| value <= **bound);
        counts.for_each(|(count, _)| *count += 1);
    }

    fn write(&self, out: &mut String, name: &str, about: &str) {
        head(out, name, "histogram", about);
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {count}");
        }
        let Self { count, sum, .. } = self;
        let _ = writeln!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}");
    }
}

fn head(out: &mut String, name: &str, kind: &str, about: &str) {
    let _ = writeln!(out, "# HELP {name} {about}\n# TYPE {name} {kind}");
}

impl Metrics {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn request(&self, route: &'static str) {
        *self.lock().requests.entry(route).or_default() += 1;
    }

    pub fn success(&self, route: &'static str, duration: Duration) {
        let mut counts = self.lock();
        *counts.successes.entry(route).or_default() += 1;
        counts.duration.add(duration.as_secs_f64());
    }

    /// `why` is the kind of a refusal, or `gone` where the client was.
    pub fn failure(&self, why: &'static str) {
        *self.lock().failures.entry(why).or_default() += 1;
    }

    pub fn batch(&self, waited: &[Duration], inference: Duration, num_inputs: usize, num_tokens: usize, flops: Flops) {
        let mut counts = self.lock();
        waited.iter().for_each(|waited| counts.queue_duration.add(waited.as_secs_f64()));
        counts.inference_duration.add(inference.as_secs_f64());
        counts.batch_size.add(num_inputs as f64);
        counts.batch_tokens.add(num_tokens as f64);
        counts.flops += flops.total() as f64;
        counts.dense_flops += flops.dense as f64;
    }

    pub fn text(&self, queue_size: usize) -> String {
        let (mut out, counts) = (String::new(), self.lock());
        for (name, label, values, about) in [
            ("te_request_count", "method", &counts.requests, "Requests that came, by route"),
            ("te_request_success", "method", &counts.successes, "Requests that were answered, by route"),
            ("te_request_failure", "err", &counts.failures, "Requests that were refused or given up, by reason"),
        ] {
            head(&mut out, name, "counter", about);
            for (value, count) in values {
                let _ = writeln!(out, "{name}{{{label}=\"{value}\"}} {count}");
            }
        }
        for (name, value, about) in [
            ("sttabt_flops", counts.flops, "FLOPs of all inputs, those that find the tokens to keep included"),
            ("sttabt_dense_flops", counts.dense_flops, "FLOPs that the same inputs would take without pruning"),
        ] {
            head(&mut out, name, "counter", about);
            let _ = writeln!(out, "{name} {value}");
        }
        head(&mut out, "te_queue_size", "gauge", "Requests that wait or are computed");
        let _ = writeln!(out, "te_queue_size {queue_size}");
        for (name, histogram, about) in [
            ("te_request_duration", &counts.duration, "Seconds from a request's head to its answer"),
            ("te_request_queue_duration", &counts.queue_duration, "Seconds that a request waited before its first run"),
            ("te_request_inference_duration", &counts.inference_duration, "Seconds of a run"),
            ("te_batch_next_size", &counts.batch_size, "Inputs of a run"),
            ("te_batch_next_tokens", &counts.batch_tokens, "Tokens of a run"),
        ] {
            histogram.write(&mut out, name, about);
        }
        out
    }
}
