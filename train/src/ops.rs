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

/// Probabilities through soft masks, as the authors divide them again.
pub fn masked_probs(probs: Tensor<4>, masks: Tensor<4>) -> Tensor<4> {
    let probs = probs * masks;
    probs.clone() / probs.sum_dim(3).add_scalar(crate::network::EPS)
}

/// Probabilities through gates. A closed gate's derivative is what opening it would change. That is p / (S + p), where p is its
/// probability and S the sum of the open ones. The division by S alone would make it p / S, which has no bound.
pub fn gated_probs(probs: Tensor<4>, gates: Tensor<4>) -> Tensor<4> {
    let fixed = (probs.clone().without_autodiff(), gates.clone().without_autodiff());
    let open = fixed.0.clone() * fixed.1.clone();
    let sum = open.clone().sum_dim(3).clamp_min(TINY);
    // 1 for open gates.
    let scale = sum.clone() / (sum + fixed.0 - open);
    let probs = probs * (fixed.1.clone() + (gates - fixed.1) * scale);
    probs.clone() / probs.sum_dim(3).clamp_min(TINY)
}

/// Rows of padding have no open gate.
const TINY: f64 = 1e-30;

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};

    use super::*;

    /// A gate's derivative, times the change of what a token brings: all that opening the gate would change.
    #[test]
    fn a_closed_gate_has_the_derivative_of_opening_it() {
        let (probs, gates, brought) = ([0.1f32, 0.6, 0.3], [1.0f32, 0.0, 0.0], [2.0f32, -1.0, 5.0]);
        let tensor =
            |values: [f32; 3]| Tensor::<4>::from_data(TensorData::new(values.to_vec(), [1, 1, 1, 3]), &Device::flex());
        let leaf = tensor(gates).autodiff().require_grad();
        let context = gated_probs(tensor(probs).autodiff(), leaf.clone()) * tensor(brought).autodiff();
        let mut found = context.sum().backward();
        let gradient: Vec<f32> = leaf.grad_remove(&mut found).expect("a gradient").try_into_vec_as().expect("values");
        let open = |at: usize| {
            let sum = probs[0] + probs[at];
            (probs[0] * brought[0] + probs[at] * brought[at]) / sum - brought[0]
        };
        for at in [1, 2] {
            assert!((gradient[at] - open(at)).abs() < 1e-6, "{gradient:?}, expected {} of {at}", open(at));
        }
    }
}
