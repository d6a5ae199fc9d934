//! Selection: ApproxNet learns from the answers which tokens they need.
//!
//! Attention says where a network looks, which is not what its answer depends on. Here every token has a gate before every layer.
//! It is open where the rule keeps the token, so the pass computes what the pruned one does. Its derivative is that of a soft gate:
//!
//! ```text
//! topk:
//! m[j] = Σ_i G_{l+1}[i] · Ā[i, j] · (0.9 + 0.1 · w[i]) / Σ G_{l+1}          Ā: mean over ApproxNet's heads
//! g[j] = 1 where m[j] is among the k largest, else 0;      dg[j] = d sigmoid((log m[j] − b) / τ)
//!        b: the middle between log m of the k-th and of the next
//! G_l  = g + G_{l+1} − g · G_{l+1};    w[j] = m[j] · G_l[j] / Σ m · G_l
//!
//! concrete, with M, c and logit(p) of the paper:
//! g[j] = 1 where logit(p) + logit(c[j]) is positive, else 0;      dg[j] = d sigmoid((logit(p) + logit(c[j])) / τ)
//! ```
//!
//! What the layers above give, G_{l+1}, w, M and their c, is constant in m and c. Of tokens with the very same m at the border, which random weights alone have, none is kept by g.

use burn::tensor::Tensor;
use burn::tensor::activation::sigmoid;
use sttabt::Ratio;

use crate::concrete::Above;
use crate::error::{Error, Result};
use crate::network::{EPS, Network};
use crate::parameters::Place;
use crate::rows::{Gates, Rows};

/// τ, in units of log m or logit c: how far from the border a token may lie and still learn.
const TEMPERATURE: f64 = 0.3;

/// Gates that are found from the last layer to the first.
struct Found<'a> {
    /// G_L, G_{L−1}, …
    values: Vec<Tensor<2>>,
    rows: &'a Rows,
    place: &'a Place,
}

impl<'a> Found<'a> {
    fn anchors(rows: &'a Rows, num_anchors: usize, place: &'a Place) -> Self {
        Self { values: vec![rows.anchors(num_anchors)], rows, place }
    }

    fn above(&self) -> &Tensor<2> {
        &self.values[self.values.len() - 1]
    }

    /// A layer's own gates: open where `distance` from the border is positive.
    fn push(&mut self, distance: Tensor<2>) {
        let soft = sigmoid(distance.div_scalar(TEMPERATURE)) * self.rows.real.clone();
        let is_open = soft.clone().without_autodiff().greater_scalar(0.5);
        let open = self.place.zeros(soft.dims()).mask_fill(is_open, 1.0);
        let own = open + (soft.clone() - soft.without_autodiff());
        let above = self.above().clone();
        self.values.push(above.clone() + own.clone() - above * own);
    }

    fn finish(mut self) -> Result<Gates> {
        self.values.reverse();
        Gates::new(self.values, self.rows, self.place)
    }
}

/// The gates of `topk` from ApproxNet's attention of each layer, `[N, heads, R, R]`; without a ratio all are open.
pub fn top_k_gates(
    approx: &Network,
    probs: &[Tensor<4>],
    rows: &Rows,
    ratio: Option<Ratio>,
    place: &Place,
) -> Result<Gates> {
    let (num_samples, width) = (rows.num_samples(), rows.width);
    let weight = f64::from(approx.config.prune.topk_impact_weight);
    let num_anchors = approx.config.num_anchors.min(width);
    let mut gates = Found::anchors(rows, num_anchors, place);
    let mut w = gates.above().clone().div_scalar(num_anchors as f64);
    for probs in probs.iter().rev() {
        // Through what the layers above ask for, derivatives would grow from layer to layer.
        let asking = gates.above().clone().without_autodiff();
        let map = probs.clone().mean_dim(1).reshape([num_samples, width, width]);
        let impact = w.mul_scalar(weight).add_scalar(1.0 - weight) * asking.clone();
        let given = impact.reshape([num_samples, 1, width]).matmul(map).reshape([num_samples, width]);
        let m = given / asking.sum_dim(1);
        let log = m.clone().add_scalar(EPS).log();
        let borders = borders(&log, rows, ratio, place)?;
        gates.push(log - borders);
        let kept = m.without_autodiff() * gates.above().clone().without_autodiff();
        w = kept.clone() / kept.sum_dim(1).add_scalar(1e-8);
    }
    gates.finish()
}

/// The gates of `concrete` from the maps U of ApproxNet's layers, `[N, R, R]`.
pub fn concrete_gates(approx: &Network, maps: &[Tensor<3>], rows: &Rows, p_logit: f32, place: &Place) -> Result<Gates> {
    let (num_anchors, constants) = (approx.config.num_anchors, &approx.config.prune);
    let p_logit = place.tensor(&[f64::from(p_logit)], [1]);
    // M is as large as the hard threshold there.
    let hard = f64::from(constants.concrete_hard_threshold);
    let border = f64::from(constants.concrete_temperature) * ((hard + EPS) / (1.0 - hard + EPS)).ln();
    let mut gates = Found::anchors(rows, num_anchors, place);
    let mut above = Above::anchors(rows, num_anchors);
    for map in maps.iter().rev() {
        let distance = above.step(map, rows, &p_logit, constants);
        above = Above { mask: above.mask.without_autodiff(), c: above.c.without_autodiff() };
        gates.push(distance.sub_scalar(border));
    }
    gates.finish()
}

/// Between the k-th largest and the next of each sample, `[N, 1]`; below all where all are kept.
fn borders(log: &Tensor<2>, rows: &Rows, ratio: Option<Ratio>, place: &Place) -> Result<Tensor<2>> {
    let values = log.clone().without_autodiff().try_into_vec_as::<f32>();
    let values = values.map_err(|error| Error::Device(error.to_string()))?;
    let of_sample = |(values, &length): (&[f32], &usize)| {
        let mut sorted = values[..length].to_vec();
        sorted.sort_by(|one, other| other.total_cmp(one));
        let k = ratio.map_or(length, |ratio| ratio.ceil_of(length));
        match sorted.get(k) {
            Some(&next) if k > 0 => f64::from(sorted[k - 1] + next) / 2.0,
            _ => BELOW_ALL,
        }
    };
    let borders: Vec<f64> = values.chunks_exact(rows.width).zip(&rows.lengths).map(of_sample).collect();
    Ok(place.tensor(&borders, [rows.lengths.len(), 1]))
}

/// Less than log EPS.
const BELOW_ALL: f64 = -100.0;
