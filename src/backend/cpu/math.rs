//! Functions that the kernels share; the shaders compute the same formulas.

use std::f32::consts::{FRAC_1_SQRT_2, LOG2_E};

use fearless_simd::Simd;
use fearless_simd::prelude::*;

/// ln 2 in two parts: a whole number times the first is exact.
pub const LN_2: [f32; 2] = [0.693_359_4, -2.121_944_4e-4];
/// The polynomial of [`exp`] on |r| ≤ ln 2 / 2, the highest power first, from r² down.
pub const EXP_COEFFICIENTS: [f32; 6] =
    [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
/// Where [`erf`] is 1 in f32.
pub const ERF_END: f32 = 3.832_507;
/// The numerator of [`erf`] over x, in x², the highest power first.
pub const ERF_NUMERATOR: [f32; 7] =
    [-2.726_142_3e-10, 2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2];
/// Its denominator.
pub const ERF_DENOMINATOR: [f32; 5] =
    [-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2];
/// [`gelu_tanh`]'s 2 · √(2/π), and that times 0.044715.
pub const GELU_TANH: [f32; 2] = [1.595_769, 7.135_481_6e-2];
/// Of [`quick_gelu`].
pub const QUICK_GELU: f32 = 1.702;

/// exp(x) to 2 ulp for x ≤ 88; below −88 it is 0. NaN stays NaN.
#[inline(always)]
pub fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| S::f32s::splat(simd, value);
    // The smallest exponent is all zeros, which makes the result 0. A comparison, because a maximum would lose NaN.
    let x = x.simd_lt(splat(-88.0)).select(splat(-88.0), x);
    // x = n · ln 2 + r with |r| ≤ ln 2 / 2.
    let n = (x * LOG2_E).round_ties_even();
    let r = n.mul_add(splat(-LN_2[0]), x);
    let r = n.mul_add(splat(-LN_2[1]), r);
    let mut p = splat(EXP_COEFFICIENTS[0]);
    for &coefficient in &EXP_COEFFICIENTS[1..] {
        p = p.mul_add(r, splat(coefficient));
    }
    let exp_r = (p * r).mul_add(r, r) + 1.0;
    let exponent: S::i32s = (n + 127.0).to_int();
    exp_r * (exponent << 23).bitcast::<S::f32s>()
}

/// The error function, to a few ulp: a rational approximation on |x| < [`ERF_END`] (beyond it the result is ±1 in f32).
#[inline(always)]
pub fn erf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| S::f32s::splat(simd, value);
    let x2 = x * x;
    let mut p = splat(ERF_NUMERATOR[0]);
    for &coefficient in &ERF_NUMERATOR[1..] {
        p = p.mul_add(x2, splat(coefficient));
    }
    let mut q = splat(ERF_DENOMINATOR[0]);
    for &coefficient in &ERF_DENOMINATOR[1..] {
        q = q.mul_add(x2, splat(coefficient));
    }
    // Where the approximation ends it is one ulp short of ±1, and x · Φ(x) would grow with a very negative x.
    x.abs().simd_ge(splat(ERF_END)).select(splat(1.0).copysign(x), x * p / q)
}

/// Φ(x), the standard normal distribution function.
#[inline(always)]
pub fn normal_cdf<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    erf(simd, x * FRAC_1_SQRT_2) * 0.5 + 0.5
}

/// 1 / (1 + e^−x). NaN stays NaN.
#[inline(always)]
fn sigmoid<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| S::f32s::splat(simd, value);
    // Of what is not positive, which cannot overflow.
    let e = exp(simd, splat(0.0) - x.abs());
    x.simd_ge(splat(0.0)).select(splat(1.0), e) / (e + 1.0)
}

/// 0.5 · x · (1 + tanh(√(2/π) · (x + 0.044715 · x³))). As 0.5 · (1 + tanh(u)) is the sigmoid of 2u, nothing cancels.
#[inline(always)]
pub fn gelu_tanh<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let splat = |value| S::f32s::splat(simd, value);
    // A large square is infinite, whose sigmoid is 0 or 1.
    let slope = (x * x).mul_add(splat(GELU_TANH[1]), splat(GELU_TANH[0]));
    x * sigmoid(simd, x * slope)
}

/// x · sigmoid(1.702 · x)
#[inline(always)]
pub fn quick_gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    x * sigmoid(simd, x * QUICK_GELU)
}

/// max(x, 0). NaN stays NaN.
#[inline(always)]
pub fn relu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    let zero = S::f32s::splat(simd, 0.0);
    x.simd_lt(zero).select(zero, x)
}

/// Vectors whose f32 sums are added up in f64.
const SUM_VECTORS: usize = 8;

/// The sum of all values, in an order that depends on their number alone: short sums in f32, and those in f64.
#[inline(always)]
pub fn sum<S: Simd>(simd: S, values: &[f32]) -> f64 {
    sum_of(simd, values, |vector| vector, |value| value)
}

/// The sum of all (value − centre)², in the order of [`sum`].
#[inline(always)]
pub fn sum_of_squares<S: Simd>(simd: S, values: &[f32], centre: f32) -> f64 {
    let square = |vector: S::f32s| (vector - centre) * (vector - centre);
    sum_of(simd, values, square, |value| (value - centre) * (value - centre))
}

#[inline(always)]
fn sum_of<S: Simd>(simd: S, values: &[f32], vectors: impl Fn(S::f32s) -> S::f32s, rest: impl Fn(f32) -> f32) -> f64 {
    let (whole, ragged) = values.split_at(values.len() / S::f32s::LEN * S::f32s::LEN);
    let mut total = 0.0;
    for block in whole.chunks(SUM_VECTORS * S::f32s::LEN) {
        let mut sums = S::f32s::splat(simd, 0.0);
        for vector in block.chunks_exact(S::f32s::LEN) {
            sums += vectors(S::f32s::from_slice(simd, vector));
        }
        total += f64::from(sums.reduce_sum());
    }
    total + ragged.iter().map(|value| f64::from(rest(*value))).sum::<f64>()
}

/// The largest of whole vectors of values; values that are all NaN have none.
#[inline(always)]
pub fn maximum<S: Simd>(simd: S, values: &[f32]) -> f32 {
    let mut maxima = S::f32s::splat(simd, f32::NEG_INFINITY);
    for vector in values.chunks_exact(S::f32s::LEN) {
        maxima = maxima.max(S::f32s::from_slice(simd, vector));
    }
    maxima.reduce_max()
}

/// Replaces whole vectors of scores by exp(score − maximum), and returns the sum of these.
#[inline(always)]
pub fn exponentials<S: Simd>(simd: S, scores: &mut [f32]) -> f32 {
    let maximum = maximum(simd, scores);
    let mut total = 0.0;
    for block in scores.chunks_mut(SUM_VECTORS * S::f32s::LEN) {
        let mut sums = S::f32s::splat(simd, 0.0);
        for vector in block.chunks_exact_mut(S::f32s::LEN) {
            let exponential = exp(simd, S::f32s::from_slice(simd, vector) - maximum);
            exponential.store_slice(vector);
            sums += exponential;
        }
        total += f64::from(sums.reduce_sum());
    }
    total as f32
}
