//! Where an ApproxNet begins: a network of the same family, with smaller widths.

use sttabt::InputConfig;
use sttabt::training::{NamedValues, NetworkValues, Part};

use crate::batch::Batch;
use crate::distill::Transfers;
use crate::error::{Error, Result};
use crate::learners::Shared;
use crate::network::Source;
use crate::parameters::Parameters;
use crate::random::Random;

/// What a dimension of a tensor counts.
#[derive(Clone, Copy, PartialEq)]
enum Axis {
    /// Features of a hidden state, of the MLP, or of the tables: fewer in an ApproxNet.
    Features,
    /// Anything else.
    Fixed,
}

/// Of random weights, as BERT begins.
const SPREAD: f32 = 0.02;

/// A network with `1 / reduction` of the widths, and random weights.
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

/// Tokens that [`fit`] looks at.
const NUM_FITTED: usize = 20_000;

/// Sets ApproxNet's values by what the parent makes of some of these samples, and gives the number of their tokens: see
/// [`crate::network::Network::fit`].
pub fn fit(
    shared: &Shared<'_>,
    samples: &[usize],
    transfers: &Transfers,
    parameters: &mut Parameters,
) -> Result<usize> {
    let length = |sample: usize| match shared.main.config.input {
        InputConfig::Text(_) => shared.tokens[sample].len(),
        InputConfig::Image(image) => image.num_tokens(),
    };
    let (mut chosen, mut num_tokens) = (Vec::new(), 0);
    for &sample in samples {
        if num_tokens >= NUM_FITTED {
            break;
        }
        num_tokens += length(sample);
        chosen.push(sample);
    }
    // Of about the same length, so that little is padded.
    chosen.sort_by_key(|&sample| length(sample));
    let batches: Vec<Batch> =
        chosen.chunks(shared.batch_size).map(|samples| shared.batch(samples, None)).collect::<Result<_>>()?;
    let source = Source { network: shared.parent, leaves: &shared.parent_leaves, batches: &batches };
    shared.approx.fit(&source, transfers, parameters)?;
    Ok(num_tokens)
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
    let size = |(&size, axis): (&usize, &Axis)| if *axis == Axis::Features { size / reduction } else { size };
    let shape: Vec<usize> = tensor.shape.iter().zip(&axes(tensor)).map(size).collect();
    let num_values: usize = shape.iter().product();
    let values = match (shape.len(), tensor.is_bias) {
        (1, true) => vec![0.0; num_values],
        // Of norms.
        (1, false) => vec![1.0; num_values],
        _ => (0..num_values).map(|_| SPREAD * random.normal() as f32).collect(),
    };
    NamedValues { shape, values, name: tensor.name.clone(), ..*tensor }
}
