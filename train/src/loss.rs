//! A loss as the sum of named parts, and the losses of answers.

use burn::tensor::activation::log_softmax;
use burn::tensor::{Int, Tensor, TensorData};
use sttabt::Task;

use crate::error::{Error, Result};
use crate::parameters::Place;

/// What a step minimises, and what it is made of.
pub struct Loss {
    /// The sum.
    pub total: Tensor<1>,
    /// By name, after their factors.
    pub parts: Vec<(&'static str, Tensor<1>)>,
}

impl Loss {
    /// The sum of some parts.
    pub fn sum(place: &Place, parts: Vec<(&'static str, Tensor<1>)>) -> Self {
        let total = parts.iter().map(|(_, part)| part.clone()).reduce(|sum, part| sum + part);
        Self { total: total.unwrap_or_else(|| place.zeros([1])), parts }
    }

    /// With one more part.
    pub fn add(&mut self, name: &'static str, part: Tensor<1>) {
        self.total = self.total.clone() + part.clone();
        self.parts.push((name, part));
    }

    /// Numbers for a log; the total comes first.
    ///
    /// # Errors
    /// [`Error::NotFinite`] names the first part that is NaN or infinite.
    pub fn numbers(&self, step: usize, way_out: &str) -> Result<Vec<(&'static str, f64)>> {
        let value = |tensor: &Tensor<1>| {
            tensor.clone().try_into_scalar::<f64>().map_err(|error| Error::Device(error.to_string()))
        };
        let mut numbers = Vec::new();
        for (part, tensor) in self.parts.iter().chain([&("total", self.total.clone())]) {
            let value = value(tensor)?;
            if !value.is_finite() {
                return Err(Error::NotFinite { step, part, value, way_out: way_out.to_owned() });
            }
            numbers.push((*part, value));
        }
        numbers.rotate_right(1);
        Ok(numbers)
    }
}

/// What the answers should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Label {
    /// The index of a label.
    Class(usize),
    /// A number.
    Value(f64),
}

/// Cross entropy, or for numbers the squared error; the mean over the samples.
pub fn task_loss(task: Task, logits: &Tensor<2>, labels: &[Label], place: &Place) -> Tensor<1> {
    let num_samples = labels.len();
    if task == Task::Regression {
        let values: Vec<f64> = labels
            .iter()
            .map(|label| match *label {
                Label::Value(value) => value,
                Label::Class(class) => class as f64,
            })
            .collect();
        let difference = logits.clone() - place.tensor(&values, [num_samples, 1]);
        return difference.square().mean();
    }
    let classes: Vec<i64> = labels
        .iter()
        .map(|label| match *label {
            Label::Class(class) => class as i64,
            Label::Value(value) => value as i64,
        })
        .collect();
    let classes = Tensor::<2, Int>::from_data(TensorData::new(classes, [num_samples, 1]), &place.device);
    log_softmax(logits.clone(), 1).gather(1, classes).mean().neg()
}

/// Kullback-Leibler divergence of answers from a teacher's, both at a temperature; the mean over the samples.
pub fn teacher_kl(logits: &Tensor<2>, teacher: &Tensor<2>, temperature: f64) -> Tensor<1> {
    let log_probs = |logits: &Tensor<2>| log_softmax(logits.clone().div_scalar(temperature), 1);
    let teacher = log_probs(teacher);
    let difference = teacher.clone() - log_probs(logits);
    (teacher.exp() * difference).sum_dim(1).mean()
}

/// The mean square of the difference from a teacher's numbers, in units of 1 + their own mean square: scores have no scale of their own, and a
/// part of a loss must not drown the others.
pub fn relative_squares(numbers: &Tensor<2>, teacher: &Tensor<2>) -> Tensor<1> {
    let size = teacher.clone().square().mean().add_scalar(1.0);
    (numbers.clone() - teacher.clone()).square().mean() / size
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;

    #[test]
    fn squares_are_in_units_of_the_teachers_numbers() {
        let tensor = |values: [[f32; 1]; 2]| Tensor::<2>::from_data(values, &Device::flex());
        let found = relative_squares(&tensor([[1.0], [3.0]]), &tensor([[2.0], [2.0]])).into_scalar::<f32>();
        assert_eq!(found, 1.0 / (1.0 + 4.0));
    }
}
