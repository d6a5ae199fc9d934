//! Loops over f32 numbers, written so that the compiler makes vectors of them: with AVX2 where the processor has it. The numbers are the
//! same without, because no loop adds in another order. Most loops are written with `for`: a closure that is not inlined stays without
//! AVX2.

/// Makes a function of a loop, compiled for AVX2 too.
macro_rules! vectors {
    ($($(#[$doc:meta])* pub fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block)*) => { $(
        $(#[$doc])*
        pub fn $name($($arg: $type),*) {
            #[inline(always)]
            fn every($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) {
                    every($($arg),*);
                }
                if std::arch::is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor has it.
                    return unsafe { avx2($($arg),*) };
                }
            }
            every($($arg),*)
        }
    )* };
}

/// exp of a number that is not positive; 0 far below. Right to 1e-11.
#[inline(always)]
fn exp(x: f64) -> f64 {
    // 2^n · e^r with |r| ≤ ln 2 / 2; adding the large number rounds to a whole one.
    const ROUND: f64 = 6_755_399_441_055_744.0;
    let x = x.max(-700.0);
    let n = x * std::f64::consts::LOG2_E + ROUND;
    let r = x - (n - ROUND) * std::f64::consts::LN_2;
    let mut value = INVERSE_FACTORIALS[0];
    for coefficient in &INVERSE_FACTORIALS[1..] {
        value = value * r + coefficient;
    }
    value * f64::from_bits((n.to_bits() << 52).wrapping_add(0x3ff0_0000_0000_0000))
}

/// 1/9! … 1/0!
const INVERSE_FACTORIALS: [f64; 10] =
    [1.0 / 362_880.0, 1.0 / 40_320.0, 1.0 / 5_040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0];

/// erf of a number that is at least 0, given e^(−x²). Right to 1e-8.
///
/// Near 0 its series; elsewhere 1 − erfc, by a rational function that is right to 1.2e-7 of erfc.
#[inline(always)]
fn erf(x: f64) -> f64 {
    let square = x * x;
    let mut series = 0.0;
    for coefficient in SERIES {
        series = series * square + coefficient;
    }
    let t = 1.0 / (1.0 + 0.5 * x);
    let mut poly = 0.170_872_77;
    for coefficient in ERFC {
        poly = poly * t + coefficient;
    }
    let far = 1.0 - t * exp(poly - square);
    if x < 1.6 { x * series * std::f64::consts::FRAC_2_SQRT_PI } else { far }
}

/// (−1)ⁿ / (n! (2n + 1)), highest power first; all are multiplied by 2/√π.
const SERIES: [f64; 17] = [
    1.4483264643598138e-15,
    -2.466827010264457e-14,
    3.9554295164585257e-13,
    -5.9477940136376354e-12,
    8.35070279514724e-11,
    -1.0892221037148573e-09,
    1.3122532963802806e-08,
    -1.4503852223150468e-07,
    1.4589169000933706e-06,
    -1.3227513227513228e-05,
    0.00010683760683760684,
    -0.0007575757575757576,
    0.004629629629629629,
    -0.023809523809523808,
    0.1,
    -0.3333333333333333,
    1.0,
];
/// Of erfc, highest power first, after the first one.
const ERFC: [f64; 9] = [
    -0.822_152_23,
    1.488_515_87,
    -1.135_203_98,
    0.278_868_07,
    -0.186_288_06,
    0.096_784_18,
    0.374_091_96,
    1.000_023_68,
    -1.265_512_23,
];

/// Four sums at a time, always in the same order.
#[inline(always)]
fn sum(values: &[f32], term: impl Fn(usize, f32) -> f64) -> f64 {
    let (chunks, rest) = values.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (chunk, values) in chunks.iter().enumerate() {
        (0..4).for_each(|at| sums[at] += term(4 * chunk + at, values[at]));
    }
    let start = values.len() - rest.len();
    sums.iter().sum::<f64>() + rest.iter().enumerate().map(|(at, &value)| term(start + at, value)).sum::<f64>()
}

vectors! {
    /// x · Φ(x), and its derivative Φ(x) + x · φ(x).
    pub fn gelu(input: &[f32], output: &mut [f32], derivative: Option<&mut [f32]>) {
        let cdf = |x: f64| {
            let half = 0.5 * erf(x.abs() * std::f64::consts::FRAC_1_SQRT_2);
            0.5 + if x < 0.0 { -half } else { half }
        };
        let Some(derivative) = derivative else {
            for (output, &x) in output.iter_mut().zip(input) {
                *output = (f64::from(x) * cdf(f64::from(x))) as f32;
            }
            return;
        };
        const PDF: f64 = 0.398_942_280_401_432_7;
        for ((output, derivative), &x) in output.iter_mut().zip(derivative).zip(input) {
            let x = f64::from(x);
            let cdf = cdf(x);
            *output = (x * cdf) as f32;
            *derivative = (cdf + x * PDF * exp(-0.5 * x * x)) as f32;
        }
    }

    /// e^x / Σ e^x of each row.
    pub fn softmax(width: usize, input: &[f32], output: &mut [f32]) {
        let mut powers = vec![0.0; width];
        for (input, output) in input.chunks_exact(width).zip(output.chunks_exact_mut(width)) {
            let mut largest = f32::NEG_INFINITY;
            for &x in input {
                largest = largest.max(x);
            }
            for (power, &x) in powers.iter_mut().zip(input) {
                *power = exp(f64::from(x) - f64::from(largest));
            }
            let total = 1.0 / powers.iter().sum::<f64>();
            for (output, power) in output.iter_mut().zip(&powers) {
                *output = (power * total) as f32;
            }
        }
    }

    /// y · (g − Σ g y) of each row. What is left of a gradient after cancelling needs the digits: sums are f64 here and below.
    pub fn softmax_backward(width: usize, output: &[f32], grad: &[f32], result: &mut [f32]) {
        let rows = output.chunks_exact(width).zip(grad.chunks_exact(width)).zip(result.chunks_exact_mut(width));
        for ((output, grad), result) in rows {
            let along = sum(output, |at, y| f64::from(y) * f64::from(grad[at]));
            for ((result, &y), &g) in result.iter_mut().zip(output).zip(grad) {
                *result = (f64::from(y) * (f64::from(g) - along)) as f32;
            }
        }
    }

    /// Normalises rows, and gives the mean and the inverse deviation of each.
    pub fn normalise(input: &[f32], weight: &[f32], bias: &[f32], eps: f64, means: &mut [[f64; 2]], output: &mut [f32]) {
        let width = weight.len();
        let rows = input.chunks_exact(width).zip(output.chunks_exact_mut(width));
        for ((input, output), stored) in rows.zip(means) {
            let mean = sum(input, |_, x| f64::from(x)) / width as f64;
            let variance = sum(input, |_, x| (f64::from(x) - mean) * (f64::from(x) - mean)) / width as f64;
            let scale = 1.0 / (variance + eps).sqrt();
            *stored = [mean, scale];
            for (((output, &x), &weight), &bias) in output.iter_mut().zip(input).zip(weight).zip(bias) {
                *output = ((f64::from(x) - mean) * scale * f64::from(weight) + f64::from(bias)) as f32;
            }
        }
    }

    /// The gradient of what went in, (g w − mean(g w) − x̂ · mean(g w x̂)) / σ; adds to those of weight and bias.
    pub fn normalise_backward(
        input: &[f32],
        weight: &[f32],
        means: &[[f64; 2]],
        grad: &[f32],
        result: &mut [f32],
        sums: [&mut [f64]; 2],
    ) {
        let [of_weight, of_bias] = sums;
        let width = weight.len();
        let rows = input.chunks_exact(width).zip(grad.chunks_exact(width)).zip(result.chunks_exact_mut(width));
        for (((input, grad), result), &[mean, scale]) in rows.zip(means) {
            let slope = |at: usize, g: f32| f64::from(g) * f64::from(weight[at]);
            let normalised = |at: usize| (f64::from(input[at]) - mean) * scale;
            let average = sum(grad, slope) / width as f64;
            let along = sum(grad, |at, g| slope(at, g) * normalised(at)) / width as f64;
            for (at, (result, &g)) in result.iter_mut().zip(grad).enumerate() {
                let x = normalised(at);
                *result = ((slope(at, g) - average - x * along) * scale) as f32;
                of_weight[at] += f64::from(g) * x;
                of_bias[at] += f64::from(g);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against f64, over all arguments that matter.
    #[test]
    fn gelu_and_its_derivative_are_exact_to_f32() {
        let input: Vec<f32> = (-12_000..=12_000).map(|at| at as f32 / 1000.0).collect();
        let (mut output, mut derivative) = (vec![f32::NAN; input.len()], vec![f32::NAN; input.len()]);
        gelu(&input, &mut output, Some(&mut derivative));
        for ((&x, &found), &slope) in input.iter().zip(&output).zip(&derivative) {
            let x = f64::from(x);
            let cdf = 0.5 * (1.0 + erf_f64(x / std::f64::consts::SQRT_2));
            let pdf = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            assert!((f64::from(found) - x * cdf).abs() < 1e-7 * (1.0 + x.abs()), "gelu({x}) = {found}");
            assert!((f64::from(slope) - (cdf + x * pdf)).abs() < 1e-7, "gelu'({x}) = {slope}");
        }
    }

    /// By its series, which loses its digits for large arguments; there it is 1 to 2e-8.
    fn erf_f64(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        if x.abs() > 4.0 {
            return x.signum();
        }
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }
}
