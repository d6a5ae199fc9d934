//! Attention: queries, keys and values of a layer.

use burn::tensor::Tensor;

use super::{Seen, Source, State, after};
use crate::algebra::{Matrix, Moments, low_rank, matrix};
use crate::error::Result;
use crate::network::{Layer, Network};
use crate::parameters::Parameters;

/// How much softer a head may become.
const SOFTER: [f64; 6] = [1.0, 0.85, 0.7, 0.5, 0.3, 0.1];

impl Network {
    /// Queries, keys and values of all heads, from the moments of a layer's inputs.
    pub(super) fn fit_heads(
        &self,
        moments: &Moments,
        source: &Source<'_>,
        [layer, large_layer]: [&Layer; 2],
        basis: &Tensor<2>,
        parameters: &mut Parameters,
    ) -> Result<()> {
        let found = moments.solve()?;
        let (factor, centred) = (moments.factor()?, moments.centred_factor()?);
        let [query, key, value] =
            [large_layer.query, large_layer.key, large_layer.value].map(|pair| after(&found, source.leaves, pair));
        let [query, key, value] = [query?, key?, value?];
        let brings = matrix(source.leaves.matrix(large_layer.attention_output.weight).matmul(basis.clone()))?;
        let (width, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let (large_size, size) = (query.ncols() / heads, width / heads);
        let zeros = || Matrix::zeros(width + 1, width);
        let mut small = [zeros(), zeros(), zeros()];
        let no_weights = Matrix::identity(width, width);
        // Scores are divided by the root of the head's width.
        let scale = (size as f64 / large_size as f64).powf(0.25);
        for head in 0..heads {
            let columns = |matrix: &Matrix| matrix.columns(head * large_size, large_size).into_owned();
            // What a query asks of all keys alike changes no probability: keys count without their mean and their bias.
            let keys = columns(&key).rows(0, width).into_owned();
            let [asks, answers] = low_rank([&columns(&query), &keys], [&factor, &centred], size)?;
            let into_basis = brings.rows(head * large_size, large_size).transpose();
            let [values, _] = low_rank([&columns(&value), &into_basis], [&factor, &no_weights], size)?;
            for (all, (rows, of_head)) in
                small.iter_mut().zip([(width + 1, asks * scale), (width, answers * scale), (width + 1, values)])
            {
                all.view_mut((0, head * size), (rows, size)).copy_from(&of_head);
            }
        }
        for (pair, values) in [layer.query, layer.key, layer.value].into_iter().zip(&small) {
            parameters.set_affine(pair.weight, pair.bias, values);
        }
        Ok(())
    }

    /// Multiplies each head's queries by what brings its attention nearest to the large one's: a score that is wrong costs more, the larger it is.
    pub(super) fn soften<'a>(
        &self,
        layer: &Layer,
        batches: impl Iterator<Item = ((Tensor<4>, &'a Seen), &'a State<'a>)>,
        parameters: &mut Parameters,
    ) -> Result<()> {
        let (width, heads) = (self.config.hidden_size, self.config.num_attention_heads);
        let mut distances = vec![[0.0; SOFTER.len()]; heads];
        for ((scores, seen), state) in batches {
            let [num_samples, _, num_rows, _] = scores.dims();
            let real = state.batch.rows.real.clone().reshape([num_samples, 1, num_rows]);
            // The divergence without the large one's entropy: log Σ exp(f s) − f Σ p s, for a factor f.
            let mean = (seen.probs.clone() * scores.clone()).sum_dim(3).squeeze_dim::<3>(3);
            let largest = scores.clone().max_dim(3);
            let below = scores - largest.clone();
            let largest = largest.squeeze_dim::<3>(3);
            for (at, factor) in SOFTER.into_iter().enumerate() {
                let sum = below.clone().mul_scalar(factor).exp().sum_dim(3).squeeze_dim::<3>(3).log();
                let distance = (sum + (largest.clone() - mean.clone()).mul_scalar(factor)) * real.clone();
                let of_heads = matrix(distance.sum_dim(2).sum_dim(0).reshape([1, heads]))?;
                distances.iter_mut().zip(of_heads.iter()).for_each(|(sums, new)| sums[at] += new);
            }
        }
        let nearest = |sums: &[f64; SOFTER.len()]| {
            let best = (0..SOFTER.len()).min_by(|&one, &other| sums[one].total_cmp(&sums[other]));
            SOFTER[best.unwrap_or(0)]
        };
        let of_feature = |feature: usize| nearest(&distances[feature / (width / heads)]);
        let factors: Vec<f64> = (0..width).map(of_feature).collect();
        let factors: Tensor<2> = self.place.tensor(&factors, [1, width]);
        let leaves = parameters.constants();
        parameters.set(layer.query.weight, leaves.matrix(layer.query.weight) * factors.clone());
        parameters.set(layer.query.bias, leaves.vector(layer.query.bias).unsqueeze::<2>() * factors);
        Ok(())
    }
}
