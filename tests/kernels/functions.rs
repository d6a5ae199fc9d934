//! The twins' elementary functions against libm.

use fearless_simd::prelude::*;
use fearless_simd::{Level, Simd, dispatch};
use sttabt::backend::cpu::math;
use sttabt::backend::{logit, sigmoid};
#[cfg(target_arch = "wasm32")]
use wasm_bindgen_test::wasm_bindgen_test as test;

/// Calls a function of vectors with one number.
macro_rules! scalar {
    ($function:ident) => {
        fn $function(x: f32) -> f32 {
            dispatch!(Level::new(), simd => math::$function(simd, splat(simd, x))[0])
        }
    };
}

#[inline(always)]
fn splat<S: Simd>(simd: S, x: f32) -> S::f32s {
    S::f32s::splat(simd, x)
}

scalar!(erf);
scalar!(exp);
scalar!(normal_cdf);
scalar!(gelu_tanh);
scalar!(quick_gelu);
scalar!(relu);

/// Around 0, on a grid, and far out.
fn arguments() -> Vec<f32> {
    let grid = (-80_000..=80_000).map(|step| step as f32 / 8000.0);
    let extremes = [0.0, 1e-30, 1e-7, 1e-3, 3.83, 3.84, 5.0, 20.0, 87.0, 88.8, 100.0, 104.0, 1e4, 1e20, f32::MAX];
    grid.chain(extremes.into_iter().flat_map(|value| [value, -value])).collect()
}

/// Checks |f(x) − g(x)| ≤ relative · |g(x)| + absolute for all arguments, and that every result is finite.
fn check(name: &str, f: fn(f32) -> f32, g: fn(f64) -> f64, arguments: &[f32], (relative, absolute): (f64, f64)) {
    let mut failures = Vec::new();
    let mut worst = 0.0f64;
    for &x in arguments {
        let (got, expected) = (f(x), g(x.into()));
        let error = (f64::from(got) - expected).abs();
        worst = worst.max((error - absolute) / expected.abs().max(1e-300));
        if !got.is_finite() || error > relative * expected.abs() + absolute {
            failures.push(format!("{name}({x}) is {got}, expected {expected}"));
        }
    }
    say!("{name}: largest relative error {worst:.1e}");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn exp_is_right() {
    // The kernels take it of what lies below a maximum, or little above. What is below e^−87.3, the least normal number, may be 0.
    let arguments: Vec<f32> = arguments().into_iter().filter(|&x| x <= 88.0).collect();
    check("exp", exp, f64::exp, &arguments, (2.5e-7, 1.2e-38));
    assert_eq!([exp(0.0), exp(-0.0), exp(-104.0), exp(f32::NEG_INFINITY)], [1.0, 1.0, 0.0, 0.0]);
    assert!(exp(f32::NAN).is_nan(), "an overflow must not vanish in a softmax");
}

#[test]
fn erf_is_right() {
    // A few ulp of f32 are 6e-8 each.
    check("erf", erf, libm::erf, &arguments(), (1e-6, 0.0));
}

#[test]
fn normal_cdf_is_right() {
    // 0.5 + 0.5 erf cancels in the left tail, which leaves an absolute error.
    check("normal_cdf", normal_cdf, |x| 0.5 * libm::erfc(-x / 2f64.sqrt()), &arguments(), (0.0, 3e-7));
}

#[test]
fn gelu_tanh_is_right() {
    // Far out on the left the argument of the sigmoid is large, and so is what its last bit changes.
    let exact = |x: f64| x / (1.0 + (-2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).exp());
    check("gelu_tanh", gelu_tanh, exact, &arguments(), (2e-5, 1e-35));
    let near: Vec<f32> = arguments().into_iter().filter(|&x| x > -2.0).collect();
    check("gelu_tanh", gelu_tanh, exact, &near, (1.5e-6, 1e-35));
}

#[test]
fn quick_gelu_is_right() {
    check("quick_gelu", quick_gelu, |x| x / (1.0 + (-1.702 * x).exp()), &arguments(), (1e-5, 1e-35));
}

#[test]
fn relu_is_right() {
    check("relu", relu, |x| x.max(0.0), &arguments(), (0.0, 0.0));
}

#[test]
fn not_a_number_stays_so() {
    for (name, function) in [("gelu_tanh", gelu_tanh as fn(f32) -> f32), ("quick_gelu", quick_gelu), ("relu", relu)] {
        assert!(function(f32::NAN).is_nan(), "an overflow must not vanish in {name}");
    }
}

#[test]
fn sigmoid_is_right() {
    // Below e^−87 f32 has fewer and fewer digits, and then 0.
    check("sigmoid", sigmoid, |x| 1.0 / (1.0 + (-x).exp()), &arguments(), (1e-6, 1e-37));
}

#[test]
fn logit_is_right() {
    // f32 cannot resolve 1 − x + 1e-7 finer than 6e-8, so x keeps away from 1; at 1 the value is log(1e-7) to that.
    let exact = |x: f64| (x + 1e-7f32 as f64).ln() - (1.0 - x + 1e-7f32 as f64).ln();
    let probabilities: Vec<f32> =
        (0..=1000).map(|step| step as f32 / 1024.0).chain([1e-30, 1e-10, 1e-7, 1e-3]).collect();
    check("logit", logit, exact, &probabilities, (1e-6, 1e-6));
    check("logit", logit, exact, &[0.999, 0.9999, 1.0 - f32::EPSILON, 1.0], (0.05, 0.0));
}

#[test]
fn signs_of_zero_and_limits() {
    assert_eq!(erf(0.0), 0.0);
    assert_eq!(erf(-0.0), 0.0);
    // What is near 0 there must not grow when GELU multiplies it by x.
    for (x, expected) in [(100.0, 1.0), (-100.0, 0.0), (f32::MAX, 1.0), (f32::MIN, 0.0)] {
        assert_eq!(erf(x), 2.0 * expected - 1.0, "erf({x})");
        assert_eq!(normal_cdf(x), expected, "normal_cdf({x})");
        assert!((sigmoid(x) - expected).abs() < 1e-30, "sigmoid({x}) is {}", sigmoid(x));
    }
    assert_eq!([normal_cdf(0.0), normal_cdf(-0.0), sigmoid(0.0), sigmoid(-0.0)], [0.5; 4]);
}
