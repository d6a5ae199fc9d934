// The error function, to a few ulp: a rational approximation on |x| < 3.83 (beyond it the result is ±1 in f32).
fn erf(value: f32) -> f32 {
    let x = clamp(value, -3.8325069, 3.8325069);
    let x2 = x * x;
    var p = -2.7261423e-10;
    p = p * x2 + 2.7706814e-8;
    p = p * x2 - 2.101024e-6;
    p = p * x2 - 5.6925064e-5;
    p = p * x2 - 7.3499063e-4;
    p = p * x2 - 2.9545998e-3;
    p = p * x2 - 1.6096033e-2;
    var q = -1.4566072e-5;
    q = q * x2 - 2.13374055e-4;
    q = q * x2 - 1.682827e-3;
    q = q * x2 - 7.3733292e-3;
    q = q * x2 - 1.4264739e-2;
    // At the clamp the approximation is one ulp short of ±1, and x · Φ(x) would grow with a very negative x.
    return select(x * p / q, sign(value), abs(value) >= 3.8325069);
}

// Φ(x), the standard normal distribution function.
fn normal_cdf(x: f32) -> f32 {
    return 0.5 + 0.5 * erf(x * 0.70710678);
}
