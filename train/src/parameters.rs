//! The values that learn, by name, and how they are kept: each is one flat tensor in the order that products want.

use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use sttabt::training::{NamedValues, Part};

use crate::error::{Error, Result};

/// Where tensors live, and their number format.
#[derive(Clone, Debug)]
pub struct Place {
    /// Without autodiff.
    pub device: Device,
    /// f32, or f64 to check the losses themselves.
    pub dtype: DType,
}

impl Place {
    /// On a device.
    pub fn new(device: Device, dtype: DType) -> Self {
        Self { device, dtype }
    }

    /// A tensor of these values.
    pub fn tensor<const D: usize>(&self, values: &[f64], shape: [usize; D]) -> Tensor<D> {
        let data = TensorData::new(values.to_vec(), shape);
        Tensor::from_data(data, (&self.device, self.dtype))
    }

    /// The same without a detour for f32.
    pub fn tensor_f32<const D: usize>(&self, values: Vec<f32>, shape: [usize; D]) -> Tensor<D> {
        Tensor::from_data(TensorData::new(values, shape), (&self.device, self.dtype))
    }

    /// Zeros.
    pub fn zeros<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        Tensor::zeros(shape, (&self.device, self.dtype))
    }

    /// Ones.
    pub fn ones<const D: usize>(&self, shape: [usize; D]) -> Tensor<D> {
        Tensor::ones(shape, (&self.device, self.dtype))
    }
}

/// One tensor that may learn.
pub struct Parameter {
    /// Hugging Face's name; ApproxNet's has `approx/` before it.
    pub name: String,
    /// As in a file.
    pub shape: Vec<usize>,
    /// Whether the value is a matrix `[in, out]`, which a file has as `[out, in]`.
    is_transposed: bool,
    /// A row that never gets a gradient: that of `[PAD]`.
    frozen_row: Option<usize>,
    /// Whether it learns at all.
    pub is_trained: bool,
    /// Flat, without autodiff.
    pub value: Tensor<1>,
}

impl Parameter {
    /// Rows and columns of the value: `[in, out]` of a linear layer.
    pub fn matrix_shape(&self) -> [usize; 2] {
        let rows = self.shape.first().copied().unwrap_or(1);
        let columns = self.shape.iter().skip(1).product();
        if self.is_transposed { [columns, rows] } else { [rows, columns] }
    }

    /// Values of the parameter, or of its gradient, in the order of a file.
    pub fn in_file_order(&self, flat: &Tensor<1>) -> Result<Vec<f64>> {
        let values: Vec<f64> = flat.try_to_vec_as::<f64>().map_err(|error| Error::Device(error.to_string()))?;
        Ok(self.transposed(&values))
    }

    fn transposed<T: Copy>(&self, values: &[T]) -> Vec<T> {
        if !self.is_transposed {
            return values.to_vec();
        }
        let [rows, columns] = self.matrix_shape();
        (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column)).map(|at| values[at]).collect()
    }

    /// As a file wants it.
    pub fn values(&self) -> Result<Vec<f32>> {
        let values: Vec<f32> = self.value.try_to_vec_as::<f32>().map_err(|error| Error::Device(error.to_string()))?;
        Ok(self.transposed(&values))
    }

    /// The flat indices that never get a gradient.
    pub fn frozen_values(&self) -> Option<std::ops::Range<usize>> {
        let width = self.shape.iter().skip(1).product::<usize>();
        self.frozen_row.map(|row| row * width..(row + 1) * width)
    }
}

/// All parameters of a training, in a fixed order.
pub struct Parameters {
    /// Where they are.
    pub place: Place,
    /// In the order in which they were added.
    pub list: Vec<Parameter>,
}

/// A parameter's index in [`Parameters::list`].
pub type Id = usize;

impl Parameters {
    /// None yet.
    pub fn new(place: Place) -> Self {
        Self { place, list: Vec::new() }
    }

    /// Adds values in the order of a file.
    pub fn add(&mut self, name: String, shape: &[usize], values: &[f32], is_linear: bool) -> Id {
        let is_transposed = is_linear && shape.len() > 1;
        let place = self.place.clone();
        let empty = place.zeros([1]);
        let shape = shape.to_vec();
        let mut parameter = Parameter { name, shape, is_transposed, frozen_row: None, is_trained: true, value: empty };
        // What turns [in, out] around is the same as what turns [out, in] around, with the sides exchanged.
        let [rows, columns] = parameter.matrix_shape();
        let values = if is_transposed {
            (0..rows).flat_map(|row| (0..columns).map(move |column| column * rows + row)).map(|at| values[at]).collect()
        } else {
            values.to_vec()
        };
        let num_values = values.len();
        parameter.value = place.tensor_f32(values, [num_values]);
        self.list.push(parameter);
        self.list.len() - 1
    }

    /// Adds a tensor of a network; `prefix` comes before its name.
    pub fn add_named(&mut self, prefix: &str, tensor: &NamedValues, pad_token: Option<usize>) -> Id {
        let is_table = matches!(
            tensor.part,
            Part::Words | Part::Positions | Part::TokenTypes | Part::Anchor(_) | Part::PLogit | Part::LtpThreshold
        );
        let name = format!("{prefix}{}", tensor.name);
        let id = self.add(name, &tensor.shape, &tensor.values, !is_table && !tensor.is_bias);
        // Positions have three dimensions in image models, and are rows all the same.
        if tensor.part == Part::Words {
            self.list[id].frozen_row = pad_token;
        }
        id
    }

    /// The parameters as constants.
    pub fn constants(&self) -> Leaves {
        Leaves::new(self, false)
    }

    /// The parameters as the leaves of a graph, those that learn with a gradient.
    pub fn leaves(&self) -> Leaves {
        Leaves::new(self, true)
    }

    /// Number of values.
    pub fn num_values(&self) -> usize {
        self.list.iter().map(|parameter| parameter.shape.iter().product::<usize>()).sum()
    }
}

/// The parameters of one pass.
pub struct Leaves {
    /// By [`Id`].
    pub tensors: Vec<Tensor<1>>,
    shapes: Vec<[usize; 2]>,
}

impl Leaves {
    fn new(parameters: &Parameters, is_graph: bool) -> Self {
        let leaf = |parameter: &Parameter| {
            let value = parameter.value.clone();
            if is_graph && parameter.is_trained { value.autodiff().require_grad() } else { value }
        };
        Self {
            tensors: parameters.list.iter().map(leaf).collect(),
            shapes: parameters.list.iter().map(Parameter::matrix_shape).collect(),
        }
    }

    /// A vector.
    pub fn vector(&self, id: Id) -> Tensor<1> {
        self.tensors[id].clone()
    }

    /// A matrix: rows of a table, or `[in, out]`.
    pub fn matrix(&self, id: Id) -> Tensor<2> {
        self.tensors[id].clone().reshape(self.shapes[id])
    }

    /// Takes the gradient of each out, `None` where there is none.
    pub fn gradients(&self, mut found: Gradients) -> Vec<Option<Tensor<1>>> {
        self.tensors.iter().map(|tensor| tensor.grad_remove(&mut found)).collect()
    }
}
