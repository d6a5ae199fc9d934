//! Where an ApproxNet begins: a network of the same family, with smaller widths.

use sttabt::training::{NamedValues, NetworkValues, Part};

use crate::error::{Error, Result};
use crate::random::Random;

/// What a dimension of a tensor counts.
#[derive(Clone, Copy, PartialEq)]
enum Axis {
    /// Features of a hidden state, of the MLP, or of the tables: fewer in an ApproxNet.
    Features,
    /// Anything else.
    Fixed,
}

/// A network with `1 / reduction` of the widths. It begins with every `reduction`-th feature of the large one.
///
/// # Errors
/// [`Error::Usage`] when the widths or the heads cannot be divided.
pub fn smaller(network: &NetworkValues, reduction: usize, random: &mut Random) -> Result<NetworkValues> {
    let config = &network.config;
    let (hidden, inner, heads) = (config.hidden_size, config.intermediate_size, config.num_attention_heads);
    let fits = |reduction: usize| {
        [hidden, inner, network.embedding_size].iter().all(|size| size.is_multiple_of(reduction))
            && (hidden / reduction).is_multiple_of(heads)
    };
    if reduction == 0 || !fits(reduction) {
        let possible: Vec<String> = (2..=hidden).filter(|&one| fits(one)).map(|one| one.to_string()).collect();
        return Err(Error::Usage(format!(
            "--reduction {reduction}: the widths {hidden} and {inner} and {heads} heads can be reduced by {}",
            possible.join(", ")
        )));
    }
    let mut small = network.clone();
    small.config.hidden_size /= reduction;
    small.config.intermediate_size /= reduction;
    small.embedding_size /= reduction;
    small.tensors = network.tensors.iter().map(|tensor| reduced(tensor, reduction, random)).collect();
    Ok(small)
}

fn axes(tensor: &NamedValues) -> Vec<Axis> {
    use Axis::{Features, Fixed};
    match (tensor.part, tensor.shape.len()) {
        (Part::Classifier | Part::DistillationClassifier, 1) => vec![Fixed],
        (Part::Words | Part::Positions | Part::TokenTypes | Part::Classifier | Part::DistillationClassifier, 2) => {
            vec![Fixed, Features]
        }
        // The projection of patches: [hidden, channels, size, size].
        (_, 4) => vec![Features, Fixed, Fixed, Fixed],
        // An anchor and an image's positions: [1, rows, hidden].
        (_, 3) => vec![Fixed, Fixed, Features],
        (_, num_axes) => vec![Features; num_axes],
    }
}

fn reduced(tensor: &NamedValues, reduction: usize, random: &mut Random) -> NamedValues {
    let axes = axes(tensor);
    let factor = |axis: &Axis| if *axis == Axis::Features { reduction } else { 1 };
    let factors: Vec<usize> = axes.iter().map(factor).collect();
    let shape: Vec<usize> = tensor.shape.iter().zip(&factors).map(|(size, factor)| size / factor).collect();
    // Fewer terms in a sum: each counts more, so that sums of independent terms stay as large.
    let is_product = axes.len() == 2 && axes[1] == Axis::Features && !is_table(tensor.part);
    let scale = if is_product { (reduction as f32).sqrt() } else { 1.0 };
    let num_values: usize = shape.iter().product();
    let values = (0..num_values).map(|at| {
        let (mut rest, mut place, mut stride) = (at, 0, 1);
        for axis in (0..shape.len()).rev() {
            place += rest % shape[axis] * factors[axis] * stride;
            rest /= shape[axis];
            stride *= tensor.shape[axis];
        }
        tensor.values[place] * scale
    });
    let mut values: Vec<f32> = values.collect();
    // Without a little noise, features that are the same in the large network would stay the same.
    if axes.len() > 1 {
        values.iter_mut().for_each(|value| *value += 1e-3 * random.normal() as f32);
    }
    NamedValues { shape, values, name: tensor.name.clone(), ..*tensor }
}

fn is_table(part: Part) -> bool {
    matches!(part, Part::Words | Part::Positions | Part::TokenTypes)
}
