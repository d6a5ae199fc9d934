//! Where an ApproxNet begins: what a smaller network can take from a large one without a step of training.
//!
//! The small network's hidden states x_s shall be the large one's in the basis P of their principal components, x_s ≈ x_t P. Layer after
//! layer, on the small network's own states, so that each part mends what those before it lack:
//!
//! ```text
//! B        x_t ≈ [x_s, 1] B                                  least squares
//! Q, K     of each head: the best of their rank for q kᵀ = [x_s, 1] B W_q (B W_k)ᵀ x_sᵀ, weighed by the moments of x_s
//!          Then each head's scores are softened, where that brings its attention nearer
//! V        the same for what a head brings into the basis: [x_s, 1] B W_v W_o P
//! O        least squares, towards the sum of attention and residual
//! MLP      the units that bring most, reading [x_s, 1] B; their output by least squares
//! norms    weight and bias of each feature by least squares; before a layer 1 and 0, which the next product makes good
//! ```

mod ends;
mod heads;

use burn::tensor::Tensor;

use super::{Layer, LayerResult, Network, Pair, Step};
use crate::algebra::{Matrix, Moments, largest_eigenvectors, matrix, values};
use crate::batch::Batch;
use crate::distill::Transfers;
use crate::error::{Error, Result};
use crate::network::{Mode, Wanted};
use crate::parameters::{Id, Leaves, Parameters};

/// The large network, and inputs to look at.
pub struct Source<'a> {
    /// Dense.
    pub network: &'a Network,
    /// Its values.
    pub leaves: &'a Leaves,
    /// Some hundred inputs.
    pub batches: &'a [Batch],
}

/// What both networks have of a batch before a layer.
struct State<'a> {
    batch: &'a Batch,
    large: Tensor<2>,
    small: Tensor<2>,
}

/// What the large network's layer makes of a batch: sums and results in the basis.
struct Seen {
    input: Tensor<2>,
    probs: Tensor<4>,
    attended_sum: Tensor<2>,
    mlp_input: Tensor<2>,
    output_sum: Tensor<2>,
    rows: Tensor<2>,
}

impl Network {
    /// Sets all values of this network, and of what leads from its states to the large one's.
    pub fn fit(&self, source: &Source<'_>, transfers: &Transfers, parameters: &mut Parameters) -> Result<()> {
        let basis = self.basis(source)?;
        self.fit_embedding(source, &basis, parameters)?;
        let mut states: Vec<State<'_>> = source
            .batches
            .iter()
            .map(|batch| State {
                batch,
                large: source.network.embed(source.leaves, batch, true),
                small: self.embed(&parameters.constants(), batch, true),
            })
            .collect();
        for at in 0..self.num_layers() {
            let found = regression(states.iter().map(|state| Ok((state.small.clone(), state.large.clone()))))?;
            let mut followers = vec![transfers.pair(at)];
            if at == 0 {
                followers.push(transfers.pair(self.num_layers()));
            }
            followers.into_iter().for_each(|[weight, bias]| parameters.set_affine(weight, bias, &found));
            self.fit_layer(at, source, &basis, &mut states, parameters)?;
        }
        self.fit_head(source, &states, parameters)
    }

    /// P `[hidden of the large one, hidden of this one]`: each layer's states count alike.
    fn basis(&self, source: &Source<'_>) -> Result<Tensor<2>> {
        let mut moments: Vec<Moments> = (0..=self.num_layers()).map(|_| Moments::default()).collect();
        for batch in source.batches {
            let wanted = Wanted { hidden_states: true, ..Wanted::default() };
            let pass = source.network.run(source.leaves, batch, &Mode::Dense, wanted);
            for (moments, rows) in moments.iter_mut().zip(&pass.hidden_states) {
                moments.add_features(rows)?;
            }
        }
        self.principal(&moments, self.config.hidden_size)
    }

    fn principal(&self, moments: &[Moments], count: usize) -> Result<Tensor<2>> {
        let mut sum: Option<Matrix> = None;
        for moments in moments {
            let covariance = moments.covariance()?;
            let trace = covariance.trace().max(f64::MIN_POSITIVE);
            let share = covariance / trace;
            sum = Some(sum.map_or_else(|| share.clone(), |sum| sum + &share));
        }
        let sum = sum.ok_or_else(|| Error::Failed("a network without states".to_owned()))?;
        let vectors = largest_eigenvectors(sum, count);
        Ok(self.place.tensor(&values(&vectors), [vectors.nrows(), vectors.ncols()]))
    }

    /// Weight and bias of a norm, from what it gives with 1 and 0 and what it should give.
    fn fit_norm<T>(
        &self,
        norm: Pair,
        parameters: &mut Parameters,
        items: impl Iterator<Item = T>,
        of: impl Fn(&Leaves, T) -> (Tensor<2>, Tensor<2>),
    ) -> Result<()> {
        parameters.set_plain(norm);
        let leaves = parameters.constants();
        let mut sums: Option<[Tensor<2>; 4]> = None;
        let mut num_rows = 0;
        for item in items {
            let (found, wanted) = of(&leaves, item);
            num_rows += found.dims()[0];
            let new = [
                found.clone().sum_dim(0),
                wanted.clone().sum_dim(0),
                (found.clone() * wanted).sum_dim(0),
                found.square().sum_dim(0),
            ];
            sums = Some(match sums {
                Some(sums) => {
                    let mut new = new.into_iter();
                    sums.map(|sum| new.next().map_or_else(|| sum.clone(), |new| sum.clone() + new))
                }
                None => new,
            });
        }
        let Some(sums) = sums else { return Ok(()) };
        let [found, wanted, product, square] = sums.map(|sum| sum.div_scalar(num_rows.max(1) as f64));
        let variance = (square - found.clone().square()).clamp_min(1e-6);
        let weight = (product - found.clone() * wanted.clone()) / variance;
        parameters.set(norm.bias, wanted - weight.clone() * found);
        parameters.set(norm.weight, weight);
        Ok(())
    }

    fn fit_layer(
        &self,
        at: usize,
        source: &Source<'_>,
        basis: &Tensor<2>,
        states: &mut [State<'_>],
        parameters: &mut Parameters,
    ) -> Result<()> {
        let (large, layer, large_layer) = (source.network, &self.layers[at], &source.network.layers[at]);
        [layer.attention_scale, layer.mlp_scale].into_iter().flatten().for_each(|scale| parameters.set_ones(scale));
        if self.is_pre_norm {
            parameters.set_plain(layer.attention_norm);
            parameters.set_plain(layer.mlp_norm);
        }
        let mut units = Spread::default();
        let mut seen = Vec::new();
        for state in states.iter() {
            let result = large.dense_layer(source.leaves, large_layer, &state.large, state.batch);
            units.add(&result.inner);
            seen.push(Seen {
                input: result.input,
                probs: result.probs,
                attended_sum: result.attended_sum.matmul(basis.clone()),
                mlp_input: result.mlp_input,
                output_sum: result.output_sum.matmul(basis.clone()),
                rows: result.rows,
            });
        }
        let run = |leaves: &Leaves, state: &State<'_>| self.dense_layer(leaves, layer, &state.small, state.batch);

        let leaves = parameters.constants();
        let mut moments = Moments::default();
        for (state, seen) in states.iter().zip(&seen) {
            moments.add(&run(&leaves, state).input, &seen.input)?;
        }
        self.fit_heads(&moments, source, [layer, large_layer], basis, parameters)?;
        let leaves = parameters.constants();
        let scores = states.iter().map(|state| run(&leaves, state).scores);
        self.soften(layer, scores.zip(&seen).zip(states.iter()), parameters)?;

        let leaves = parameters.constants();
        let found =
            regression(states.iter().zip(&seen).map(|(state, seen)| {
                Ok((run(&leaves, state).context, seen.attended_sum.clone() - state.small.clone()))
            }))?;
        parameters.set_affine(layer.attention_output.weight, layer.attention_output.bias, &found);
        if !self.is_pre_norm {
            self.fit_norm(layer.attention_norm, parameters, states.iter().zip(&seen), |leaves, (state, seen)| {
                (run(leaves, state).mlp_input, seen.mlp_input.clone().matmul(basis.clone()))
            })?;
        }

        let leaves = parameters.constants();
        let found = regression(
            states.iter().zip(&seen).map(|(state, seen)| Ok((run(&leaves, state).mlp_input, seen.mlp_input.clone()))),
        )?;
        let outer = matrix(source.leaves.matrix(large_layer.output.weight).matmul(basis.clone()))?;
        let spread = units.variances()?;
        let brings: Vec<f64> =
            spread.iter().zip(outer.row_iter()).map(|(spread, row)| spread * row.norm_squared()).collect();
        let chosen = largest(&brings, self.config.intermediate_size);
        let inner = after(&found, source.leaves, large_layer.intermediate)?.select_columns(&chosen);
        parameters.set_affine(layer.intermediate.weight, layer.intermediate.bias, &inner);

        let leaves = parameters.constants();
        let found = regression(states.iter().zip(&seen).map(|(state, seen)| {
            let result = run(&leaves, state);
            let residual = if self.is_pre_norm { result.attended_sum } else { result.mlp_input };
            Ok((result.inner, seen.output_sum.clone() - residual))
        }))?;
        parameters.set_affine(layer.output.weight, layer.output.bias, &found);
        if !self.is_pre_norm {
            self.fit_norm(layer.mlp_norm, parameters, states.iter().zip(&seen), |leaves, (state, seen)| {
                (run(leaves, state).rows, seen.rows.clone().matmul(basis.clone()))
            })?;
        }
        let leaves = parameters.constants();
        for (state, seen) in states.iter_mut().zip(seen) {
            state.small = run(&leaves, state).rows;
            state.large = seen.rows;
        }
        Ok(())
    }

    fn dense_layer(&self, leaves: &Leaves, layer: &Layer, rows: &Tensor<2>, batch: &Batch) -> LayerResult {
        let key_mask = batch.rows.key_mask();
        let step =
            Step { layer, layout: &batch.rows, kept: None, masks: None, is_gated: false, key_mask: key_mask.as_ref() };
        self.layer(leaves, rows.clone(), &step)
    }
}

/// How much each feature varies.
#[derive(Default)]
struct Spread {
    num_rows: usize,
    /// Sums of the values and of their squares.
    sums: Option<[Tensor<2>; 2]>,
}

impl Spread {
    fn add(&mut self, rows: &Tensor<2>) {
        self.num_rows += rows.dims()[0];
        let [sum, squares] = [rows.clone().sum_dim(0), rows.clone().square().sum_dim(0)];
        self.sums = Some(match self.sums.take() {
            Some([old, old_squares]) => [old + sum, old_squares + squares],
            None => [sum, squares],
        });
    }

    fn variances(self) -> Result<Vec<f64>> {
        let [sum, squares] = self.sums.ok_or_else(|| Error::Failed("a network without inputs".to_owned()))?;
        let num_rows = self.num_rows.max(1) as f64;
        let variances = squares.div_scalar(num_rows) - sum.div_scalar(num_rows).square();
        variances.try_into_vec_as::<f64>().map_err(|error| Error::Device(error.to_string()))
    }
}

/// The regression of targets on features, over all batches.
fn regression(rows: impl Iterator<Item = Result<(Tensor<2>, Tensor<2>)>>) -> Result<Matrix> {
    let mut moments = Moments::default();
    for pair in rows {
        let (features, targets) = pair?;
        moments.add(&features, &targets)?;
    }
    moments.solve()
}

/// What a linear layer makes of `[x, 1] B`, as a matrix whose last row is the bias.
fn after(found: &Matrix, leaves: &Leaves, pair: Pair) -> Result<Matrix> {
    let mut values = found * matrix(leaves.matrix(pair.weight))?;
    let bias = matrix(leaves.vector(pair.bias).unsqueeze::<2>())?;
    let last = values.nrows() - 1;
    let sum = values.row(last) + bias.row(0);
    values.set_row(last, &sum);
    Ok(values)
}

/// The places of the largest, in order.
fn largest(numbers: &[f64], count: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..numbers.len()).collect();
    order.sort_by(|&one, &other| numbers[other].total_cmp(&numbers[one]));
    order.truncate(count);
    order.sort_unstable();
    order
}

impl Parameters {
    fn set<const D: usize>(&mut self, id: Id, values: Tensor<D>) {
        let num_values = values.dims().iter().product::<usize>();
        debug_assert_eq!(num_values, self.list[id].shape.iter().product::<usize>(), "{}", self.list[id].name);
        self.list[id].value = values.reshape([num_values]);
    }

    /// A matrix whose last row is the bias.
    fn set_affine(&mut self, weight: Id, bias: Id, matrix: &Matrix) {
        let (rows, columns) = (matrix.nrows() - 1, matrix.ncols());
        let mut flat = values(matrix);
        let last = flat.split_off(rows * columns);
        let place = self.place.clone();
        self.set(weight, place.tensor(&flat, [rows, columns]));
        self.set(bias, place.tensor(&last, [columns]));
    }

    fn set_ones(&mut self, id: Id) {
        self.list[id].value = self.list[id].value.ones_like();
    }

    /// A norm that changes neither scale nor mean.
    fn set_plain(&mut self, norm: Pair) {
        self.set_ones(norm.weight);
        self.list[norm.bias].value = self.list[norm.bias].value.zeros_like();
    }
}
