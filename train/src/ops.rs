//! Functions that Burn has only as an approximation, or not at all.

use burn::tensor::Tensor;
use burn::tensor::activation;

/// With the exact error function, and its exact derivative.
///
/// Burn's own derivative is exact on the CPU; its GPU backends fall back to one by the hyperbolic tangent.
pub fn gelu<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    if cfg!(any(feature = "wgpu", feature = "cuda")) {
        let cdf = input.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
        return input * cdf;
    }
    activation::gelu(input)
}

/// The larger of both; the gradient goes to the larger, and to `first` where they are the same.
pub fn maximum<const D: usize>(first: Tensor<D>, second: Tensor<D>) -> Tensor<D> {
    let is_second = second.clone().greater(first.clone());
    first.mask_where(is_second, second)
}

/// log(x + EPS) − log(1 − x + EPS)
pub fn logit<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    let eps = crate::network::EPS;
    // In this order: near 1, the difference must not be rounded to the size of EPS.
    let rest = input.clone().neg().add_scalar(1.0).add_scalar(eps);
    input.add_scalar(eps).log() - rest.log()
}
