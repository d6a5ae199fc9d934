//! GELU, softmax and layer normalisation on the CPU with their derivatives, in one pass each.
//!
//! Burn composes the derivatives of many passes over memory, and its GELU calls the error function of the C library number by number.
//! These are for f32 on the backend Flex; everything else goes the usual way.

use std::sync::Arc;

use burn::tensor::{DType, Shape, Tensor, TensorData};
use burn_autodiff::Autodiff;
use burn_autodiff::checkpoint::base::Checkpointer;
use burn_autodiff::checkpoint::strategy::NoCheckpointing;
use burn_autodiff::grads::Gradients;
use burn_autodiff::ops::{Backward, Ops, OpsKind, unary};
use burn_flex::{Flex, FlexTensor};
use rayon::prelude::*;

use crate::math::{gelu, normalise, normalise_backward, softmax, softmax_backward};

/// Values that one thread computes at a time.
const CHUNK: usize = 1 << 14;

fn flex(values: Vec<f32>, shape: &Shape) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape.clone()))
}

fn shape(tensor: &FlexTensor) -> Shape {
    tensor.layout().shape().clone()
}

/// The values of a tensor that is contiguous.
fn values(tensor: &FlexTensor) -> &[f32] {
    tensor.as_slice::<f32>().unwrap_or_default()
}

/// Rows of the last dimension.
fn width(tensor: &FlexTensor) -> usize {
    let shape = tensor.layout().shape();
    shape[shape.num_dims() - 1].max(1)
}

#[derive(Debug)]
struct Gelu;

impl Backward<Flex, 1> for Gelu {
    /// The derivative.
    type State = FlexTensor;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let derivative = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |grad| {
            let grad = grad.to_contiguous();
            let mut product = vec![0.0; values(&grad).len()];
            let pairs = values(&grad).par_chunks(CHUNK).zip(values(&derivative).par_chunks(CHUNK));
            product.par_chunks_mut(CHUNK).zip(pairs).for_each(|(product, (grad, derivative))| {
                product.iter_mut().zip(grad).zip(derivative).for_each(|((p, g), d)| *p = g * d);
            });
            flex(product, &shape(&grad))
        });
    }
}

/// With the exact error function; `None` where it is not for this tensor.
pub fn try_gelu<const D: usize>(input: &Tensor<D>) -> Option<Tensor<D>> {
    if input.dtype() != DType::F32 {
        return None;
    }
    if !input.is_autodiff() {
        let input = input.clone().try_into_primitive::<Flex>().ok()?.to_contiguous();
        let mut output = vec![0.0; values(&input).len()];
        let chunks = output.par_chunks_mut(CHUNK).zip(values(&input).par_chunks(CHUNK));
        chunks.for_each(|(output, input)| gelu(input, output, None));
        return Some(Tensor::from_primitive::<Flex>(flex(output, &shape(&input))));
    }
    let input = input.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let node = input.node();
    let input = input.into_primitive().to_contiguous();
    let (mut output, mut derivative) = (vec![0.0; values(&input).len()], vec![0.0; values(&input).len()]);
    let chunks = output.par_chunks_mut(CHUNK).zip(derivative.par_chunks_mut(CHUNK));
    let chunks = chunks.zip(values(&input).par_chunks(CHUNK));
    chunks.for_each(|((output, derivative), input)| gelu(input, output, Some(derivative)));
    let (output, derivative) = (flex(output, &shape(&input)), flex(derivative, &shape(&input)));
    let result = match Gelu.prepare::<NoCheckpointing>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(derivative, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Some(Tensor::from_primitive::<Autodiff<Flex>>(result))
}

#[derive(Debug)]
struct Softmax;

impl Backward<Flex, 1> for Softmax {
    /// What came out.
    type State = FlexTensor;

    fn backward(self, ops: Ops<Self::State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let output = ops.state;
        unary::<Flex, _>(ops.parents, ops.node, grads, |grad| {
            let grad = grad.to_contiguous();
            let width = width(&grad);
            let rows = CHUNK.div_ceil(width) * width;
            let mut result = vec![0.0; values(&grad).len()];
            let pairs = values(&grad).par_chunks(rows).zip(values(&output).par_chunks(rows));
            let all = result.par_chunks_mut(rows).zip(pairs);
            all.for_each(|(result, (grad, output))| softmax_backward(width, output, grad, result));
            flex(result, &shape(&grad))
        });
    }
}

/// Along the last dimension; `None` where it is not for this tensor.
pub fn try_softmax<const D: usize>(input: &Tensor<D>) -> Option<Tensor<D>> {
    if input.dtype() != DType::F32 || !input.is_autodiff() {
        return None;
    }
    let input = input.clone().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let node = input.node();
    let input = input.into_primitive().to_contiguous();
    let width = width(&input);
    let rows = CHUNK.div_ceil(width) * width;
    let mut output = vec![0.0; values(&input).len()];
    let chunks = output.par_chunks_mut(rows).zip(values(&input).par_chunks(rows));
    chunks.for_each(|(output, input)| softmax(width, input, output));
    let output = flex(output, &shape(&input));
    let result = match Softmax.prepare::<NoCheckpointing>([node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(output.clone(), output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Some(Tensor::from_primitive::<Autodiff<Flex>>(result))
}

#[derive(Debug)]
struct LayerNorm;

/// What went in, with the mean and the inverse deviation of each row.
#[derive(Debug, Clone)]
struct Normalised {
    input: FlexTensor,
    weight: FlexTensor,
    means: Arc<Vec<[f64; 2]>>,
}

impl Backward<Flex, 3> for LayerNorm {
    type State = Normalised;

    fn backward(self, ops: Ops<Self::State, 3>, grads: &mut Gradients, _: &mut Checkpointer) {
        let [of_input, of_weight, of_bias] = ops.parents;
        let Normalised { input, weight, means } = ops.state;
        let grad = grads.consume::<Flex>(&ops.node).to_contiguous();
        let width = width(&input);
        let num_rows = CHUNK.div_ceil(width);
        let mut result = vec![0.0; values(&grad).len()];
        let parts = result.par_chunks_mut(num_rows * width).zip(values(&grad).par_chunks(num_rows * width));
        let parts = parts.zip(values(&input).par_chunks(num_rows * width)).zip(means.par_chunks(num_rows));
        // The sums of each part are added in order: the same numbers on any number of threads.
        let sums: Vec<[Vec<f64>; 2]> = parts
            .map(|(((result, grad), input), means)| {
                let mut sums = [vec![0.0; width], vec![0.0; width]];
                let [weights, biases] = &mut sums;
                normalise_backward(input, values(&weight), means, grad, result, [weights, biases]);
                sums
            })
            .collect();
        if let Some(node) = of_input {
            grads.register::<Flex>(node.id, flex(result, &shape(&grad)));
        }
        for (side, node) in [of_weight, of_bias].into_iter().enumerate() {
            let Some(node) = node else { continue };
            let total = |at: usize| sums.iter().map(|sums| sums[side][at]).sum::<f64>() as f32;
            grads.register::<Flex>(node.id, flex((0..width).map(total).collect(), &Shape::new([width])));
        }
    }
}

/// Over the last dimension; `None` where it is not for this tensor.
pub fn try_layer_norm(input: &Tensor<2>, weight: &Tensor<1>, bias: &Tensor<1>, eps: f64) -> Option<Tensor<2>> {
    if input.dtype() != DType::F32 || !(input.is_autodiff() || weight.is_autodiff()) {
        return None;
    }
    // A constant among them becomes one of the graph.
    let input = input.clone().autodiff().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let weight = weight.clone().autodiff().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let bias = bias.clone().autodiff().try_into_primitive::<Autodiff<Flex>>().ok()?;
    let nodes = [input.node(), weight.node(), bias.node()];
    let [input, weight, bias] = [input, weight, bias].map(|tensor| tensor.into_primitive().to_contiguous());
    let (width, num_values) = (width(&input), values(&input).len());
    let num_rows = CHUNK.div_ceil(width);
    let mut output = vec![0.0; num_values];
    let mut means = vec![[0.0; 2]; num_values / width];
    let parts = output.par_chunks_mut(num_rows * width).zip(means.par_chunks_mut(num_rows));
    let parts = parts.zip(values(&input).par_chunks(num_rows * width));
    parts.for_each(|((output, means), input)| normalise(input, values(&weight), values(&bias), eps, means, output));
    let output = flex(output, &shape(&input));
    let state = Normalised { input, weight, means: Arc::new(means) };
    let result = match LayerNorm.prepare::<NoCheckpointing>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(state, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    };
    Some(Tensor::from_primitive::<Autodiff<Flex>>(result))
}
