//! Functions that Burn has only as an approximation, or not at all.

use burn::tensor::{Tensor, activation, module};

use crate::fused;

/// With the exact error function, and its exact derivative.
///
/// The derivative of Burn's GPU backends is one by the hyperbolic tangent: there it is composed of functions with exact ones.
pub fn gelu(input: Tensor<2>) -> Tensor<2> {
    if let Some(output) = fused::try_gelu(&input) {
        return output;
    }
    let cdf = input.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    input * cdf
}

/// Over the last dimension.
pub fn softmax<const D: usize>(input: Tensor<D>) -> Tensor<D> {
    fused::try_softmax(&input).unwrap_or_else(|| activation::softmax(input, D - 1))
}

/// Over features.
pub fn layer_norm(input: Tensor<2>, weight: Tensor<1>, bias: Tensor<1>, eps: f64) -> Tensor<2> {
    let fused = fused::try_layer_norm(&input, &weight, &bias, eps);
    fused.unwrap_or_else(|| module::layer_norm(input, weight, Some(bias), eps))
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
