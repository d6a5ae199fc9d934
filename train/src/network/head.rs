//! What follows the layers: logits, or a vector.

use burn::tensor::Tensor;
use sttabt::PoolingMode;
use sttabt::training::PoolerKind;

use super::{Network, Pair};
use crate::parameters::Leaves;
use crate::rows::Rows;

impl Network {
    /// What stands before the classifier, of some rows of the last hidden states.
    pub fn pool(&self, leaves: &Leaves, rows: Tensor<2>) -> Tensor<2> {
        match (self.pooler, self.pooler_kind) {
            (Some(pooler), PoolerKind::Dense(activation)) => {
                self.activate(activation, self.linear(leaves, pooler, rows))
            }
            (Some(pooler), _) => self.norm(leaves, pooler, rows),
            (None, _) => rows,
        }
    }

    /// The vector of each sample: that of `[CLS]`, or the mean of all tokens, with length 1.
    pub fn embedding(&self, leaves: &Leaves, last: &Tensor<2>, layout: &Rows) -> Tensor<2> {
        let rows = match self.pooling {
            Some(PoolingMode::Mean) => {
                let normed = layout.pad(self.pool(leaves, last.clone()));
                let [num_samples, width, hidden] = normed.dims();
                let weights = layout.weights.clone().reshape([num_samples, 1, width]);
                weights.matmul(normed).reshape([num_samples, hidden])
            }
            _ => self.pool(leaves, last.clone().select(0, layout.token(0, &self.place))),
        };
        let length = rows.clone().square().sum_dim(1).add_scalar(1e-24).sqrt();
        rows / length
    }

    /// The logits of each sample, `[N, labels]`; of several anchors their mean.
    pub fn logits(&self, leaves: &Leaves, last: &Tensor<2>, layout: &Rows) -> Tensor<2> {
        let of_anchor = |(anchor, &classifier): (usize, &Pair)| {
            let rows = last.clone().select(0, layout.token(anchor, &self.place));
            self.linear(leaves, classifier, self.pool(leaves, rows))
        };
        let sum = self.classifiers.iter().enumerate().map(of_anchor).reduce(|sum, logits| sum + logits);
        let sum = sum.unwrap_or_else(|| self.place.zeros([0, 0]));
        if self.classifiers.len() > 1 { sum.div_scalar(self.classifiers.len() as f64) } else { sum }
    }
}
