//! How far a kernel may be from the oracle. f32 rounds by 6e-8; all errors are in units of the size of the terms summed.

pub struct Tolerance {
    pub kernel: &'static str,
    /// CPU twin against the oracle.
    pub twin: f64,
    /// GPU against the oracle.
    pub gpu: f64,
    pub gpu_to_twin: f64,
    #[expect(dead_code, reason = "for whoever reads the table")]
    pub reason: &'static str,
}

const fn row(kernel: &'static str, twin: f64, gpu: f64, gpu_to_twin: f64, reason: &'static str) -> Tolerance {
    Tolerance { kernel, twin, gpu, gpu_to_twin, reason }
}

pub const TOLERANCES: &[Tolerance] = &[
    row("gather_rows", 0.0, 0.0, 0.0, "copies"),
    row(
        "layer_norm",
        1e-6,
        1.5e-6,
        1.5e-6,
        "a mean and a variance over 768 columns, then a division (or its reciprocal)",
    ),
    row("linear", 5e-7, 5e-7, 6e-7, "sums of 768 products; erf, exp and tanh are good to a few ulp"),
    row("attention", 2e-7, 3e-7, 3e-7, "exp of scores whose error grows with their size, which is in the scale"),
    row(
        "attention_maps",
        4e-7,
        5e-7,
        5e-7,
        "a streamed sum of up to 257 exponentials or squares, then an exponential or Φ",
    ),
    row("back_tracking top-k", 4e-6, 4e-6, 8e-7, "sums of thousands of positive values in order, two layers deep"),
    row("back_tracking concrete", 1e-5, 1e-5, 1.5e-6, "as top-k, and masks that magnify an error by 1/τ"),
    row("select_tokens", 3e-7, 4e-7, 5e-7, "exact sums, rounded once or twice"),
    row("pack_rows", 0.0, 0.0, 0.0, "whole numbers"),
];
