// The error function, and what comes of it.

const ERF_END: f32 = 3.8325069;
const ERF_NUMERATOR: array<f32, 7> =
    array(-2.7261423e-10, 2.7706814e-8, -2.101024e-6, -5.6925064e-5, -7.3499063e-4, -2.9545998e-3, -1.6096033e-2);
const ERF_DENOMINATOR: array<f32, 5> = array(-1.4566072e-5, -2.13374055e-4, -1.682827e-3, -7.3733292e-3, -1.4264739e-2);
const FRAC_1_SQRT_2: f32 = 0.70710678;

// The error function, to a few ulp: a rational approximation on |x| < ERF_END (beyond it the result is ±1 in f32).
fn erf(value: f32) -> f32 {
    let x = clamp(value, -ERF_END, ERF_END);
    let x2 = x * x;
    var p = ERF_NUMERATOR[0];
    p = p * x2 + ERF_NUMERATOR[1];
    p = p * x2 + ERF_NUMERATOR[2];
    p = p * x2 + ERF_NUMERATOR[3];
    p = p * x2 + ERF_NUMERATOR[4];
    p = p * x2 + ERF_NUMERATOR[5];
    p = p * x2 + ERF_NUMERATOR[6];
    var q = ERF_DENOMINATOR[0];
    q = q * x2 + ERF_DENOMINATOR[1];
    q = q * x2 + ERF_DENOMINATOR[2];
    q = q * x2 + ERF_DENOMINATOR[3];
    q = q * x2 + ERF_DENOMINATOR[4];
    // At the clamp the approximation is one ulp short of ±1, and x · Φ(x) would grow with a very negative x.
    return select(x * p / q, sign(value), abs(value) >= ERF_END);
}

// Φ(x), the standard normal distribution function.
fn normal_cdf(x: f32) -> f32 {
    return 0.5 + 0.5 * erf(x * FRAC_1_SQRT_2);
}
