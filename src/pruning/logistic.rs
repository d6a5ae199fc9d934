//! The logistic function and its inverse, as Rule 2 has them.

/// Added inside logarithms and quotients.
pub const CONCRETE_EPS: f32 = 1e-7;

/// 1 / (1 + exp(−x)) through exp(−|x|), which cannot overflow.
pub fn sigmoid(x: f32) -> f32 {
    let e = (-x.abs()).exp();
    if x >= 0.0 { 1.0 / (1.0 + e) } else { e / (1.0 + e) }
}

/// log(x + EPS) − log(1 − x + EPS) (Rule 2).
pub fn logit(x: f32) -> f32 {
    (x + CONCRETE_EPS).ln() - (1.0 - x + CONCRETE_EPS).ln()
}
