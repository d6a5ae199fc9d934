//! Ratios of `topk` for each layer, for networks that do not change any more: they fall from the first layer to the last.
//!
//! A ratio counts in all layers below its own, because what a layer keeps the ones below keep too. So the upper layers' ratios are the dear ones.

use sttabt::{Engine, Prune, Ratio, Ratios, Task};

use crate::data::Sample;
use crate::elastic::{mean_maps, top_k};
use crate::error::{Error, Result};
use crate::learners::Shared;
use crate::measure::{answers, engine};
use crate::parameters::Leaves;

/// Samples that the ratios are fitted to.
const NUM_SAMPLES: usize = 512;
/// Numbers of their maps that are held in memory: 256 MiB.
const NUM_VALUES: usize = 1 << 26;
/// The first layer's ratio, in units of the last but one's.
const TILTS: [f64; 5] = [1.0, 1.5, 2.0, 3.0, 4.0];
/// The last layer's ratio, in the same units.
const LASTS: [f64; 4] = [1.0, 0.6, 0.4, 0.2];
/// Where the search for a tilt stands.
const MIDDLE: f64 = 0.4;
/// Halvings of the interval of factors.
const NUM_HALVINGS: usize = 12;

/// What is needed of the samples.
pub struct Funnel<'a> {
    shared: &'a Shared<'a>,
    samples: Vec<usize>,
    /// Of each sample and layer.
    maps: Vec<Vec<Vec<f32>>>,
}

/// A rule that was chosen.
pub struct Fitted {
    /// `topk` with a ratio for each layer.
    pub prune: Prune,
    /// How it was found.
    pub note: String,
}

/// How ratios fall.
#[derive(Clone, Copy, PartialEq)]
struct Shape {
    tilt: f64,
    last: f64,
}

impl Shape {
    /// In hundredths: linear down to the last layer but one, whose ratio is `factor`.
    fn ratios(self, factor: f64, num_layers: usize) -> Vec<f64> {
        let steps = num_layers.saturating_sub(2).max(1) as f64;
        let of_layer = |layer: usize| match num_layers - layer {
            1 => self.last,
            above => 1.0 + (self.tilt - 1.0) * (above - 2) as f64 / steps,
        };
        let hundredths = |ratio: f64| ((ratio * 100.0).round() / 100.0).clamp(0.01, 1.0);
        (0..num_layers).map(|layer| hundredths(factor * of_layer(layer))).collect()
    }
}

/// The ratios of a shape at which this share of the tokens is kept.
fn at_retention(shape: Shape, num_layers: usize, wanted: f64, retention: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let (mut low, mut high) = (0.0, 1.0 / shape.last);
    for _ in 0..NUM_HALVINGS {
        let middle = (low + high) / 2.0;
        match retention(&shape.ratios(middle, num_layers)) <= wanted {
            true => low = middle,
            false => high = middle,
        }
    }
    shape.ratios(low, num_layers)
}

/// The mean divergence of labels from the parent's; of other outputs the mean square.
fn distance(task: Task, found: &[Vec<f32>], parent: &[Vec<f32>]) -> f64 {
    let of_sample = |(found, parent): (&Vec<f32>, &Vec<f32>)| -> f64 {
        if task != Task::Classification {
            let squares = found.iter().zip(parent).map(|(one, other)| f64::from(one - other).powi(2));
            return squares.sum::<f64>() / parent.len().max(1) as f64;
        }
        let (found, parent) = (log_softmax(found), log_softmax(parent));
        parent.iter().zip(found).map(|(parent, found)| parent.exp() * (parent - found)).sum()
    };
    found.iter().zip(parent).map(of_sample).sum::<f64>() / parent.len().max(1) as f64
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let shifted: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - largest)).collect();
    let log_sum = shifted.iter().map(|logit| logit.exp()).sum::<f64>().ln();
    shifted.into_iter().map(|logit| logit - log_sum).collect()
}

fn rule(ratios: &[f64]) -> Result<Prune> {
    let ratios = match ratios {
        [first, others @ ..] if others.iter().all(|other| other == first) => Ratios::uniform(*first),
        all => Ratios::per_layer(all),
    };
    ratios.map(Prune::TopK).ok_or_else(|| Error::Failed("a layer's ratio is not a share".to_owned()))
}

impl<'a> Funnel<'a> {
    /// Runs ApproxNet over some of these samples.
    pub fn new(shared: &'a Shared<'a>, leaves: &Leaves, samples: impl Iterator<Item = usize>) -> Result<Self> {
        let candidates: Vec<usize> = samples.take(NUM_SAMPLES).collect();
        let mut funnel = Self { shared, samples: Vec::new(), maps: Vec::new() };
        let mut num_values = 0;
        for samples in candidates.chunks(shared.batch_size) {
            for (&sample, maps) in samples.iter().zip(mean_maps(shared.approx, leaves, &shared.batch(samples, None)?)?)
            {
                num_values += maps.iter().map(Vec::len).sum::<usize>();
                funnel.samples.push(sample);
                funnel.maps.push(maps);
            }
            if num_values > NUM_VALUES {
                break;
            }
        }
        Ok(funnel)
    }

    /// Mean over samples and l = 0 … L of |K_l| / T.
    fn retention(&self, ratios: &[f64]) -> f64 {
        let ratios: Vec<Ratio> = ratios.iter().filter_map(|&ratio| Ratio::new(ratio)).collect();
        let of_sample = |maps: &Vec<Vec<f32>>| {
            let num_tokens = maps.first().map_or(0, Vec::len).isqrt();
            let kept = top_k(self.shared.approx, maps, num_tokens, &ratios);
            kept.iter().map(Vec::len).sum::<usize>() as f64 / (kept.len() * num_tokens.max(1)) as f64
        };
        self.maps.iter().map(of_sample).sum::<f64>() / self.maps.len().max(1) as f64
    }

    /// For each mean retention the rule whose answers are nearest to the dense parent's: first over tilts, then over the last layer's ratio.
    pub fn fit(&self, result: &mut Engine, retentions: &[f64]) -> Result<Vec<Fitted>> {
        let (model, num_layers) = (self.shared.model, self.shared.main.num_layers());
        let samples: Vec<&Sample> = self.samples.iter().map(|&at| &self.shared.samples[at]).collect();
        let parent = answers(&mut engine(model)?, &samples, &Prune::Dense)?.outputs;
        let mut fitted = Vec::new();
        for &wanted in retentions {
            let mut measure = |shape: Shape| -> Result<(f64, Shape, Prune)> {
                let prune = rule(&at_retention(shape, num_layers, wanted, |ratios| self.retention(ratios)))?;
                let found = answers(result, &samples, &prune)?.outputs;
                Ok((distance(model.config().task, &found, &parent), shape, prune))
            };
            let uniform = measure(Shape { tilt: 1.0, last: 1.0 })?;
            let mut best = uniform.clone();
            let mut look = |shape: Shape, best: &mut (f64, Shape, Prune)| -> Result<()> {
                if shape == best.1 {
                    return Ok(());
                }
                let found = measure(shape)?;
                if found.0 < best.0 {
                    *best = found;
                }
                Ok(())
            };
            for tilt in TILTS {
                look(Shape { tilt, last: MIDDLE }, &mut best)?;
            }
            for last in LASTS {
                look(Shape { last, ..best.1 }, &mut best)?;
            }
            let ratios = best.2.ratios().and_then(|ratios| ratios.for_layers(num_layers)).unwrap_or_default();
            let ratios: Vec<f64> = ratios.into_iter().map(Ratio::get).collect();
            let note = format!(
                "`{}` keeps {:.3} of the tokens on average, {wanted:.3} was asked for. It was fitted to {} samples that are not held back: its \
                 answers are {:.4} from the parent's, and {:.4} with `{}`",
                best.2,
                self.retention(&ratios),
                samples.len(),
                best.0,
                uniform.0,
                uniform.2
            );
            fitted.push(Fitted { prune: best.2, note });
        }
        Ok(fitted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_fall_to_the_last_layer() {
        let shape = Shape { tilt: 2.0, last: 0.4 };
        assert_eq!(shape.ratios(0.25, 6), [0.5, 0.44, 0.38, 0.31, 0.25, 0.1]);
        assert_eq!(shape.ratios(0.75, 6), [1.0, 1.0, 1.0, 0.94, 0.75, 0.3]);
        assert_eq!(shape.ratios(0.25, 2), [0.25, 0.1]);
        assert_eq!(shape.ratios(0.0, 1), [0.01]);
    }

    /// The largest factor that stays below the retention.
    #[test]
    fn a_shape_is_scaled_to_the_retention() {
        let mean = |ratios: &[f64]| ratios.iter().sum::<f64>() / ratios.len() as f64;
        for shape in [Shape { tilt: 1.0, last: 1.0 }, Shape { tilt: 3.0, last: 0.2 }] {
            for wanted in [0.1, 0.35, 0.8] {
                let found = mean(&at_retention(shape, 6, wanted, mean));
                assert!(found <= wanted && found > wanted - 0.01, "{found}, wanted {wanted}");
            }
        }
    }

    #[test]
    fn labels_have_a_divergence_and_numbers_squares() {
        let (found, parent) = ([vec![0.0, 0.0]], [vec![0.0, 3.0_f32.ln()]]);
        let divergence = distance(Task::Classification, &found, &parent);
        let expected = 0.25 * (0.25_f64 / 0.5).ln() + 0.75 * (0.75_f64 / 0.5).ln();
        assert!((divergence - expected).abs() < 1e-6, "{divergence}, expected {expected}");
        assert_eq!(distance(Task::Regression, &[vec![1.0]], &[vec![3.0]]), 4.0);
    }

    #[test]
    fn equal_ratios_are_written_as_one() {
        assert_eq!(rule(&[0.3, 0.3]).expect("a rule").to_string(), "topk:0.3");
        assert_eq!(rule(&[0.3, 0.1]).expect("a rule").to_string(), "topk:0.3,0.1");
    }
}
