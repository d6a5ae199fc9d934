//! ApproxNet's distillation: it learns the teacher's attention, hidden states, embeddings and answers.
//!
//! ```text
//! attention  = 1/L Σ_l mean over samples and heads of 1/T Σ_i Σ_j A_t[i, j] · (log(A_t[i, j] + EPS) − log(A_s[i, j] + EPS))
//! hidden     = 1/L Σ_l MSE(transfer_hidden_l(x_s of layer l), x_t of layer l)
//! embedding  = MSE(transfer_embedding(e_s), e_t), e the embeddings with token types 0
//! prediction = MSE(softmax(logits of the student), softmax(logits of the teacher)); of a score s: MSE(s_s, s_t) / (1 + mean s_t²)
//! ```

use burn::tensor::Tensor;
use burn::tensor::activation::softmax;
use burn::tensor::module::linear;
use sttabt::{InputConfig, Task};

use crate::batch::Batch;
use crate::loss::{Loss, relative_squares};
use crate::network::{EPS, Mode, Network, Pass, Wanted};
use crate::parameters::{Id, Leaves, Parameters};
use crate::random::Random;
use crate::rows::Rows;

/// Linear layers from the student's width to the teacher's: one for each layer, and last one for the embeddings.
pub struct Transfers(Vec<[Id; 2]>);

impl Transfers {
    /// Their names, in order.
    pub fn names(num_layers: usize) -> impl Iterator<Item = String> {
        (0..num_layers).map(|layer| format!("transfer_hidden.{layer}")).chain(["transfer_embedding".to_owned()])
    }

    /// With these values: by name, weight `[teacher, student]` and bias.
    pub fn new(
        parameters: &mut Parameters,
        prefix: &str,
        num_layers: usize,
        [teacher, student]: [usize; 2],
        mut values: impl FnMut(&str) -> Option<Vec<f32>>,
    ) -> Option<Self> {
        let mut pair = |name: String| {
            let weight = format!("{name}.weight");
            let bias = format!("{name}.bias");
            let weight_values = values(&weight)?;
            let bias_values = values(&bias)?;
            Some([
                parameters.add(format!("{prefix}{weight}"), &[teacher, student], &weight_values, true),
                parameters.add(format!("{prefix}{bias}"), &[teacher], &bias_values, false),
            ])
        };
        Self::names(num_layers).map(&mut pair).collect::<Option<Vec<_>>>().map(Self)
    }

    /// As PyTorch begins: uniform within ± 1/√width.
    pub fn random(
        parameters: &mut Parameters,
        num_layers: usize,
        sizes: [usize; 2],
        random: &mut Random,
    ) -> Option<Self> {
        let bound = 1.0 / (sizes[1] as f32).sqrt();
        Self::new(parameters, "", num_layers, sizes, |name| {
            let num_values = if name.ends_with("bias") { sizes[0] } else { sizes[0] * sizes[1] };
            Some((0..num_values).map(|_| random.between(-bound, bound)).collect())
        })
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = Id> {
        self.0.iter().flatten().copied()
    }

    /// Weight and bias of a layer's; of the embeddings', the last.
    pub fn pair(&self, at: usize) -> [Id; 2] {
        self.0[at]
    }

    fn apply(&self, leaves: &Leaves, at: usize, rows: Tensor<2>) -> Tensor<2> {
        let [weight, bias] = self.0[at];
        linear(rows, leaves.matrix(weight), Some(leaves.vector(bias)))
    }
}

/// What a student learns from.
pub struct Teacher {
    pass: Pass,
    embeddings: Tensor<2>,
    answers: Tensor<2>,
}

impl Teacher {
    /// The dense pass of a network whose leaves are constants.
    pub fn new(network: &Network, leaves: &Leaves, batch: &Batch) -> Self {
        let pass = network.run(leaves, batch, &Mode::Dense, Wanted { hidden_states: true, probs: true, scores: false });
        let embeddings = without_token_types(network, leaves, batch, &pass);
        let answers = answers(network, leaves, batch, &pass);
        Self { pass, embeddings, answers }
    }
}

/// Embeddings with token types 0, even for pairs.
fn without_token_types(network: &Network, leaves: &Leaves, batch: &Batch, pass: &Pass) -> Tensor<2> {
    match pass.hidden_states.first() {
        Some(first) if !batch.has_token_types => first.clone(),
        _ => network.embed(leaves, batch, false),
    }
}

/// Probabilities of the labels; of a model without labels what it gives itself.
fn answers(network: &Network, leaves: &Leaves, batch: &Batch, pass: &Pass) -> Tensor<2> {
    let last = &pass.hidden_states[pass.hidden_states.len() - 1];
    match network.config.task {
        Task::Classification => softmax(network.logits(leaves, last, &batch.rows), 1),
        Task::MultiLabel => burn::tensor::activation::sigmoid(network.logits(leaves, last, &batch.rows)),
        Task::Regression => network.logits(leaves, last, &batch.rows),
        // Of another width than the teacher's: nothing to compare.
        Task::Embedding => last.clone().slice([0..0, 0..0]),
    }
}

/// The loss of one batch.
pub fn loss(teacher: &Teacher, student: &Network, transfers: &Transfers, leaves: &Leaves, batch: &Batch) -> Loss {
    let num_layers = student.num_layers();
    let pass = student.run(leaves, batch, &Mode::Dense, Wanted { hidden_states: true, probs: true, scores: false });
    let mean_of_layers = |part: &dyn Fn(usize) -> Tensor<1>| {
        let sum = (0..num_layers).map(part).reduce(|sum, part| sum + part);
        sum.map_or_else(|| leaves.vector(0).sum().mul_scalar(0.0), |sum| sum.div_scalar(num_layers as f64))
    };
    let real_rows = real_rows(&batch.rows);
    let attention = mean_of_layers(&|layer| divergence(&teacher.pass.probs[layer], &pass.probs[layer], &real_rows));
    let hidden = mean_of_layers(&|layer| {
        let transferred = transfers.apply(leaves, layer, pass.hidden_states[layer].clone());
        mean_squares(transferred - teacher.pass.hidden_states[layer].clone(), &batch.rows)
    });
    let embeddings = without_token_types(student, leaves, batch, &pass);
    let embedding = transfers.apply(leaves, num_layers, embeddings) - teacher.embeddings.clone();
    let embedding = mean_squares(embedding, &batch.rows);
    let [hidden_factor, prediction_factor] = match student.config.input {
        InputConfig::Text(_) => [1.0, 1.0],
        InputConfig::Image(_) => [0.01, 200.0],
    };
    let mut parts =
        vec![("attention", attention), ("hidden", hidden.mul_scalar(hidden_factor)), ("embedding", embedding)];
    if student.config.task != Task::Embedding {
        let answers = answers(student, leaves, batch, &pass);
        let prediction = match student.config.task {
            Task::Regression => relative_squares(&answers, &teacher.answers),
            _ => (answers - teacher.answers.clone()).square().mean(),
        };
        parts.push(("prediction", prediction.mul_scalar(prediction_factor)));
    }
    Loss::sum(student.place(), parts)
}

/// 1/T on the rows of real tokens, `[N, 1, R]`.
fn real_rows(rows: &Rows) -> Tensor<3> {
    let weights = rows.real.clone() / rows.real.clone().sum_dim(1);
    weights.reshape([rows.num_samples(), 1, rows.width])
}

/// Σ over keys, weighted mean over the queries, mean over heads and samples.
fn divergence(teacher: &Tensor<4>, student: &Tensor<4>, real_rows: &Tensor<3>) -> Tensor<1> {
    let [num_samples, num_heads, num_rows, _] = teacher.dims();
    let log = |probs: &Tensor<4>| probs.clone().add_scalar(EPS).log();
    let terms = teacher.clone() * (log(teacher) - log(student));
    let of_rows = terms.sum_dim(3).reshape([num_samples, num_heads, num_rows]);
    (of_rows * real_rows.clone()).sum().div_scalar((num_samples * num_heads) as f64)
}

/// The mean over features, the tokens of a sample as it weighs them, and samples.
fn mean_squares(difference: Tensor<2>, rows: &Rows) -> Tensor<1> {
    let weights = rows.column(rows.weights.clone());
    (difference.square().mean_dim(1) * weights).sum().div_scalar(rows.num_samples() as f64)
}
