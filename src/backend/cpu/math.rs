//! Functions that the kernels share; the shaders compute the same formulas.

/// The error function, to a few ulp: a rational approximation on |x| < 3.83 (beyond it the result is ±1 in f32).
pub fn erf(x: f32) -> f32 {
    // Where the approximation ends it is one ulp short of ±1, and x · Φ(x) would grow with a very negative x.
    if x.abs() >= 3.832_507 {
        return 1f32.copysign(x);
    }
    let x2 = x * x;
    let mut p = -2.726_142_3e-10;
    for coefficient in [2.770_681_4e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2] {
        p = p * x2 + coefficient;
    }
    let mut q = -1.456_607_2e-5;
    for coefficient in [-2.133_740_5e-4, -1.682_827e-3, -7.373_329_2e-3, -1.426_473_9e-2] {
        q = q * x2 + coefficient;
    }
    x * p / q
}

/// Φ(x), the standard normal distribution function.
pub fn normal_cdf(x: f32) -> f32 {
    0.5 + 0.5 * erf(x * std::f32::consts::FRAC_1_SQRT_2)
}

/// 1 / (1 + exp(−x)) through exp(−|x|), which cannot overflow.
pub fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// log(x + EPS) − log(1 − x + EPS) (Rule 2).
pub fn logit(x: f32) -> f32 {
    use crate::backend::CONCRETE_EPS;
    (x + CONCRETE_EPS).ln() - (1.0 - x + CONCRETE_EPS).ln()
}

/// a · b over rows padded to 4 values or more; four running sums, whatever the length.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 4];
    for (a, b) in a.chunks_exact(4).zip(b.chunks_exact(4)) {
        for lane in 0..4 {
            sums[lane] += a[lane] * b[lane];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}
