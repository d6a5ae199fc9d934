//! Runs a table of cases on both backends, and reports every failing one.

use std::fmt::Debug;

use fearless_simd::Level;
use sttabt::Result;
use sttabt::backend::cpu::CpuBackend;
use sttabt::backend::gpu::{GpuBackend, GpuOptions, Variant, Variants};
use sttabt::backend::{Backend, MatrixShape, Region};
use sttabt::tensor::row_stride;

use crate::data::{Chunk, POISON};
use crate::tolerances::{TOLERANCES, Tolerance};

/// What one word of an output should be.
#[derive(Debug, Clone, Copy)]
pub enum Expected {
    /// The kernel must leave it alone.
    Untouched,
    /// To the last bit; a zero may have either sign.
    Exactly(f32),
    /// Within tolerance · scale; the scale is the size of the terms that rounding errors come from.
    Near(f64, f64),
}

/// What a kernel leaves behind: a matrix with its padding, and the index buffer for kernels that write it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Output {
    pub values: Vec<f32>,
    pub words: Vec<u32>,
}

/// One case of a kernel's table.
pub trait Case: Debug {
    /// As in [`TOLERANCES`].
    fn kernel(&self) -> &'static str;
    async fn run<B: Backend>(&self, backend: &mut B) -> Result<Output>;
    /// By an independent computation in f64. An error is a case that has no clear answer.
    fn expected(&self) -> Result<(Vec<Expected>, Vec<u32>), String>;
    /// Tokens of the samples.
    fn lengths(&self) -> Vec<usize>;
    /// The same case with this sample alone.
    fn alone(&self, sample: usize) -> Self;
    /// A sample's part of the output.
    fn part(&self, output: &Output, sample: usize) -> Output;
}

/// Which cases of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tokens {
    /// Up to [`FEW_TOKENS`].
    Few,
    Many,
}

/// More than a workgroup and the ragged samples beside it have.
const FEW_TOKENS: usize = 80;

/// Without an adapter this fails, and the error lists those found.
pub async fn gpu() -> GpuBackend {
    let options = GpuOptions { adapter: None, allow_software: true };
    GpuBackend::new(&options).await.unwrap_or_else(|error| panic!("{error}"))
}

/// A matrix with these rows, padded with zeros as every kernel leaves them, and poison in `spare_rows` after them.
pub fn matrix<B: Backend>(backend: &mut B, width: usize, values: &[f32], spare_rows: usize) -> Result<B::Matrix> {
    let (stride, num_rows) = (row_stride(width), values.len() / width);
    let mut padded = vec![f32::from_bits(POISON); (num_rows + spare_rows) * stride];
    for (row, values) in values.chunks_exact(width).enumerate() {
        padded[row * stride..][..stride].fill(0.0);
        padded[row * stride..][..width].copy_from_slice(values);
    }
    let mut matrix = backend.create_matrix("input", num_rows + spare_rows, width)?;
    backend.write_matrix(&mut matrix, 0, &padded)?;
    Ok(matrix)
}

/// A matrix of poison.
pub fn poisoned<B: Backend>(backend: &mut B, num_rows: usize, width: usize) -> Result<B::Matrix> {
    let mut matrix = backend.create_matrix("output", num_rows, width)?;
    backend.write_matrix(&mut matrix, 0, &vec![f32::from_bits(POISON); num_rows * row_stride(width)])?;
    Ok(matrix)
}

/// An index buffer with these words.
pub fn index<B: Backend>(backend: &mut B, chunk: &Chunk, words: &[u32]) -> Result<B::Index> {
    let mut index = backend.create_index(words.len())?;
    backend.begin_chunk(&mut index, chunk.layout, words)?;
    Ok(index)
}

/// The whole matrix.
pub async fn read_matrix<B: Backend>(backend: &mut B, matrix: &B::Matrix) -> Result<Output> {
    let words = backend.read(&[Region::Matrix(matrix, matrix.num_rows())]).await?.remove(0);
    Ok(Output { values: words.into_iter().map(f32::from_bits).collect(), words: Vec::new() })
}

/// The whole matrix and the index buffer.
pub async fn read_both<B: Backend>(
    backend: &mut B,
    matrix: &B::Matrix,
    index: &B::Index,
    words: usize,
) -> Result<Output> {
    let regions = [Region::Matrix(matrix, matrix.num_rows()), Region::Index(index, 0..words)];
    let mut read = backend.read(&regions).await?;
    let words = read.remove(1);
    Ok(Output { values: read.remove(0).into_iter().map(f32::from_bits).collect(), words })
}

/// The SIMD levels that cases run at, and the names of those that this CPU does not have. One that it has must be found.
pub fn levels() -> (Vec<Level>, Vec<&'static str>) {
    let best = Level::new();
    #[cfg(target_arch = "x86_64")]
    let all = {
        use fearless_simd::Simd;
        [
            ("AVX-512", best.as_avx512().map(Simd::level), std::is_x86_feature_detected!("avx512bitalg")),
            ("AVX2", best.as_avx2().map(Simd::level), std::is_x86_feature_detected!("avx2")),
            ("SSE4.2", best.as_sse4_2().map(Simd::level), std::is_x86_feature_detected!("sse4.2")),
            ("SSE2", best.as_sse2().map(Simd::level), true),
        ]
    };
    // Elsewhere the level is chosen when compiling.
    #[cfg(not(target_arch = "x86_64"))]
    let all = [("the compiled level", Some(best), true)];
    let (mut levels, mut missing) = (Vec::new(), Vec::new());
    for (name, level, is_here) in all {
        match level {
            Some(level) => levels.push(level),
            None if is_here => panic!("this CPU has {name}, and no case would run at it"),
            None => missing.push(name),
        }
    }
    (levels, missing)
}

/// Says something that a test which passes is to be read with: `println!` would be captured.
pub fn note(text: &str) {
    #[cfg(not(target_arch = "wasm32"))]
    std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes()).expect("standard error");
    #[cfg(target_arch = "wasm32")]
    say!("{text}");
}

// In a browser, where a pipeline takes seconds to compile, one table after the other uses the same devices.
#[cfg(target_arch = "wasm32")]
thread_local!(static SPARE: std::cell::RefCell<Vec<GpuBackend>> = const { std::cell::RefCell::new(Vec::new()) });

/// Where a table's cases run on the GPU: the variant has a name if the kernel has more than one.
async fn gpus(kernel: &str) -> Vec<(&'static str, GpuBackend)> {
    let names = if ["linear", "attention", "attention_maps"].contains(&kernel) {
        &["GPU, wide", "GPU, tiled"][..]
    } else {
        &["GPU"]
    };
    #[cfg(target_arch = "wasm32")]
    let mut spare = SPARE.take().into_iter();
    #[cfg(not(target_arch = "wasm32"))]
    let mut spare = std::iter::empty();
    let mut gpus = Vec::new();
    for (&name, variant) in names.iter().zip(Variant::ALL) {
        let mut gpu = match spare.next() {
            Some(gpu) => gpu,
            None => gpu().await,
        };
        gpu.set_variants(Variants::all(variant));
        gpus.push((name, gpu));
    }
    #[cfg(target_arch = "wasm32")]
    SPARE.with_borrow_mut(|kept| kept.extend(spare));
    gpus
}

/// Holds both backends to the oracle and the GPU to the twin, and every middle sample to its result alone; the CPU at every SIMD
/// level that it has.
pub async fn check(cases: &[impl Case], tokens: Tokens) {
    let is_few = |case: &&_| Case::lengths(*case).iter().sum::<usize>() <= FEW_TOKENS;
    let cases: Vec<_> = cases.iter().filter(|case| is_few(case) == (tokens == Tokens::Few)).collect();
    let tolerance = TOLERANCES.iter().find(|tolerance| tolerance.kernel == cases[0].kernel()).expect("a tolerance");
    let mut gpus = gpus(cases[0].kernel()).await;
    let (levels, missing) = levels();
    if !missing.is_empty() {
        let num_missing = cases.len() * missing.len();
        let names = missing.join(", ");
        note(&format!("{}: {num_missing} runs NOT RUN (this CPU has no {names})", tolerance.kernel));
    }
    let mut failures = Vec::new();
    let mut worst = [0.0f64; 3];
    for &case in &cases {
        let kernel = case.kernel();
        let twin = case.run(&mut CpuBackend::new()).await;
        let (values, words) = match case.expected() {
            Ok(expected) => expected,
            Err(reason) => {
                failures.push(format!("{kernel}, {case:?}: the case has no clear answer: {reason}"));
                continue;
            }
        };
        let twin = match twin {
            Ok(twin) => twin,
            Err(error) => {
                failures.push(format!("{kernel}, twin, {case:?}: {error}"));
                continue;
            }
        };
        let mut compare = |pair: usize, what: &str, got: &Output, values: &[Expected], words: &[u32]| {
            for found in [
                compare_values(&got.values, values, allowed(tolerance, pair), &mut worst[pair]),
                compare_words(&got.words, words),
            ] {
                failures.extend(found.map(|found| format!("{kernel}, {what}, {case:?}: {found}")));
            }
        };
        compare(0, "twin", &twin, &values, &words);
        let mut failed = Vec::new();
        for (name, gpu) in &mut gpus {
            let output = case.run(gpu).await;
            gpu.release();
            match output {
                Ok(output) => {
                    compare(1, name, &output, &values, &words);
                    compare(
                        2,
                        &format!("{name} against twin"),
                        &output,
                        &from_twin(&values, &twin.values),
                        &twin.words,
                    );
                    failed.extend(
                        alone(case, gpu, &output).await.map(|found| format!("{kernel}, {name}, {case:?}: {found}")),
                    );
                }
                Err(error) => failed.push(format!("{kernel}, {name}, {case:?}: {error}")),
            }
        }
        failures.extend(failed);
        for &level in &levels {
            let mut cpu = CpuBackend::with_level(level);
            let output = match case.run(&mut cpu).await {
                Ok(output) => output,
                Err(error) => {
                    failures.push(format!("{kernel}, {level:?}, {case:?}: {error}"));
                    continue;
                }
            };
            let found = [
                compare_values(&output.values, &values, tolerance.twin, &mut worst[0]),
                compare_words(&output.words, &words),
            ];
            failures.extend(found.into_iter().flatten().map(|found| format!("{kernel}, {level:?}, {case:?}: {found}")));
            if kernel == "linear" {
                let mut compact = CpuBackend::with_level(level);
                compact.set_compact_weights(true);
                match case.run(&mut compact).await {
                    Ok(other) if bits(&other) == bits(&output) => {}
                    _ => failures.push(format!("{kernel}, {level:?}, {case:?}: another result with compact weights")),
                }
            }
            let found = alone(case, &mut cpu, &output).await;
            failures.extend(found.map(|found| format!("{kernel}, {level:?}, {case:?}: {found}")));
        }
    }
    say!(
        "{}, {tokens:?} tokens: {} cases on {} and at {} SIMD levels; largest errors: twin {:.1e}, GPU {:.1e}, GPU against twin {:.1e}",
        tolerance.kernel,
        cases.len(),
        gpus[0].1.adapter().name,
        levels.len(),
        worst[0],
        worst[1],
        worst[2]
    );
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    #[cfg(target_arch = "wasm32")]
    SPARE.with_borrow_mut(|spare| spare.splice(0..0, gpus.into_iter().map(|(_, gpu)| gpu)).for_each(drop));
}

/// What is wrong if the middle one of at least three samples has another result alone.
async fn alone<B: Backend>(case: &impl Case, backend: &mut B, output: &Output) -> Option<String> {
    if case.lengths().len() < 3 {
        return None;
    }
    let alone = case.alone(1);
    match alone.run(backend).await {
        Ok(single) if bits(&alone.part(&single, 0)) == bits(&case.part(output, 1)) => None,
        Ok(_) => Some("sample 1 has another result alone".to_owned()),
        Err(error) => Some(format!("sample 1 alone: {error}")),
    }
}

fn allowed(tolerance: &Tolerance, pair: usize) -> f64 {
    [tolerance.twin, tolerance.gpu, tolerance.gpu_to_twin][pair]
}

/// The twin's values in place of the oracle's.
fn from_twin(values: &[Expected], twin: &[f32]) -> Vec<Expected> {
    let one = |(expected, &twin): (&Expected, &f32)| match *expected {
        Expected::Near(_, scale) => Expected::Near(f64::from(twin), scale),
        other => other,
    };
    values.iter().zip(twin).map(one).collect()
}

fn bits(output: &Output) -> (Vec<u32>, &[u32]) {
    (output.values.iter().map(|value| value.to_bits()).collect(), &output.words)
}

/// Says how many values are wrong and which is the worst; `worst` takes the largest error in units of the scale.
fn compare_values(got: &[f32], expected: &[Expected], tolerance: f64, worst: &mut f64) -> Option<String> {
    if got.len() != expected.len() {
        return Some(format!("{} values, expected {}", got.len(), expected.len()));
    }
    let mut wrong: Vec<(f64, usize)> = Vec::new();
    for (place, (&got, expected)) in got.iter().zip(expected).enumerate() {
        let unless = |right: bool| if right { 0.0 } else { f64::INFINITY };
        let error = match *expected {
            Expected::Untouched => unless(got.to_bits() == POISON),
            Expected::Exactly(value) => unless(got == value),
            Expected::Near(..) if !got.is_finite() => f64::INFINITY,
            Expected::Near(value, scale) => (f64::from(got) - value).abs() / scale,
        };
        if error.is_finite() {
            *worst = worst.max(error);
        }
        if error > tolerance {
            wrong.push((error, place));
        }
    }
    let &(error, place) = wrong.iter().max_by(|a, b| a.0.total_cmp(&b.0))?;
    Some(format!(
        "{} of {} values are wrong, the worst at {place}: {}, expected {:?} (error {error:.2e}, allowed {tolerance:.1e})",
        wrong.len(),
        got.len(),
        got[place],
        expected[place]
    ))
}

fn compare_words(got: &[u32], expected: &[u32]) -> Option<String> {
    if got.len() != expected.len() {
        return Some(format!("{} words, expected {}", got.len(), expected.len()));
    }
    let wrong: Vec<usize> = (0..got.len()).filter(|&place| got[place] != expected[place]).collect();
    let &first = wrong.first()?;
    Some(format!(
        "{} of {} words of the index buffer are wrong, the first at {first}: {}, expected {}",
        wrong.len(),
        got.len(),
        got[first],
        expected[first]
    ))
}
