//! A fresh output head on a model's encoder.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value};
use sttabt::training::{NamedValues, NetworkValues, Part, Which, WithoutHead, leave_out_head, name_of, pooler, values};
use sttabt::{Config, Model, ModelFiles, Task};

use crate::checkpoint::write_whole;
use crate::error::{Error, Result};
use crate::folder::{CONFIG, Format, Stored, WEIGHTS, is_replaced, set_default_prune, write_json, write_weights};
use crate::random::Random;

/// The deviation of new weights, as in transformers.
const DEVIATION: f64 = 0.02;

/// A text model without its head.
pub struct Encoder {
    values: NetworkValues,
    /// Weight and bias, if the file has them.
    pooler: Vec<NamedValues>,
    /// What the two linear layers of a head are called.
    names: [String; 2],
    without_head: WithoutHead,
    /// Of its tokenizer: names and bytes.
    others: Vec<(String, Vec<u8>)>,
}

/// What a head answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer<'a> {
    /// One of these labels.
    Label(&'a [&'a str]),
    /// A number, which is about this much before anything is learned.
    Number(f64),
}

/// How the one output of a regression is called.
const NUMBER: &str = "score";

impl Answer<'_> {
    fn names(&self) -> Vec<String> {
        match self {
            Self::Label(names) => names.iter().map(|name| (*name).to_owned()).collect(),
            Self::Number(_) => vec![NUMBER.to_owned()],
        }
    }

    /// What of it is in a `config.json`.
    fn add_to(&self, config: &mut Map<String, Value>) {
        let names = self.names();
        let by_index = names.iter().enumerate().map(|(index, name)| (index.to_string(), name.as_str().into()));
        config.insert("id2label".to_owned(), Value::Object(by_index.collect()));
        let by_name = names.iter().enumerate().map(|(index, name)| (name.clone(), index.into()));
        config.insert("label2id".to_owned(), Value::Object(by_name.collect()));
        let problem = match self {
            Self::Label(_) => "single_label_classification",
            Self::Number(_) => "regression",
        };
        config.insert("problem_type".to_owned(), problem.into());
    }
}

impl Encoder {
    /// Reads a folder with a text model, whatever its head is.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut files = ModelFiles::from_dir(folder)?;
        let without_head = leave_out_head(&mut files)?;
        let other = |name: &str| Some((name.to_owned(), files.get(name)?.to_vec()));
        let others = files.names().filter(|name| !is_replaced(name)).filter_map(other).collect();
        let model = Model::from_bytes(files)?;
        let missing = || Error::content(folder, "no network in it");
        let values = values(&model, Which::Main)?.ok_or_else(missing)?;
        if !values.is_text() {
            return Err(Error::Usage(format!("--model {}: it reads pictures, expected texts", folder.display())));
        }
        let name = |part| name_of(&model, Which::Main, part, 0).ok_or_else(missing);
        let names = [name(Part::Pooler)?, name(Part::Classifier)?];
        Ok(Self { values, pooler: pooler(&model)?, names, without_head, others })
    }

    /// What a model with this head says of itself.
    pub fn config(&self, answer: Answer<'_>) -> Config {
        let mut config = self.values.config.clone();
        config.task = match answer {
            Answer::Label(_) => Task::Classification,
            Answer::Number(_) => Task::Regression,
        };
        config.labels = answer.names();
        config
    }

    /// Writes a folder with a new classifier behind the encoder. A pooler stays if there is one, and is new else.
    pub fn write(&self, answer: Answer<'_>, random: &mut Random, format: Format, out: &Path) -> Result<()> {
        fs::create_dir_all(out).map_err(Error::file("write", out))?;
        for (name, bytes) in &self.others {
            write_whole(&out.join(name), bytes)?;
        }
        let stored =
            |tensor: &NamedValues| Stored::new(tensor.name.clone(), tensor.shape.clone(), &tensor.values, format);
        let mut tensors: Vec<Stored> = self.values.tensors.iter().chain(&self.pooler).map(stored).collect();
        let hidden_size = self.values.config.hidden_size;
        let mut linear = |name: &str, num_outputs: usize, bias: f32| {
            let weights: Vec<f32> =
                (0..num_outputs * hidden_size).map(|_| (DEVIATION * random.normal()) as f32).collect();
            let shape = vec![num_outputs, hidden_size];
            tensors.push(Stored::new(format!("{name}.weight"), shape, &weights, format));
            let biases = vec![bias; num_outputs];
            tensors.push(Stored::new(format!("{name}.bias"), vec![num_outputs], &biases, format));
        };
        let [pooler, classifier] = &self.names;
        if self.pooler.is_empty() {
            linear(pooler, hidden_size, 0.0);
        }
        match answer {
            Answer::Label(labels) => linear(classifier, labels.len(), 0.0),
            Answer::Number(mean) => linear(classifier, 1, mean as f32),
        }
        write_weights(&out.join(WEIGHTS), &tensors)?;
        let mut config = self.without_head.config.clone();
        answer.add_to(&mut config);
        config.insert("architectures".to_owned(), vec![self.without_head.classifier].into());
        set_default_prune(&mut config, None);
        // Who finds it finds the others.
        write_json(&out.join(CONFIG), &config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors(model: &Model) -> Vec<NamedValues> {
        values(model, Which::Main).expect("values").expect("a network").tensors
    }

    /// Of classifiers, a score, several labels, and embedders with a list of modules; RoBERTa's classifier has a pooler of its own.
    #[test]
    fn a_head_on_every_family_of_texts() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
        let out = std::env::temp_dir().join(format!("sttabt-head-{}", std::process::id()));
        for (name, has_pooler) in [
            ("families/bert-relu", true),
            ("families/bert-multilabel", true),
            ("families/bert-embed-cls", true),
            ("families/camembert-score", true),
            ("families/distilbert", true),
            ("families/electra", true),
            ("families/roberta", true),
            ("families/roberta-embed-cls", false),
            ("families/xlm-roberta", true),
            ("tiny-bert", true),
        ] {
            let encoder = Encoder::read(&fixtures.join(name)).expect(name);
            assert_eq!(!encoder.pooler.is_empty(), has_pooler, "{name}");
            for answer in [Answer::Label(&["no", "maybe", "yes"]), Answer::Number(2.5)] {
                encoder.write(answer, &mut Random::new(1), Format::F32, &out).expect(name);
                let model = ModelFiles::from_dir(&out).and_then(Model::from_bytes).expect(name);
                let config = encoder.config(answer);
                assert_eq!((model.config().task, &model.config().labels), (config.task, &config.labels), "{name}");
                assert!(!model.has_approx_net() && model.pooling().is_none(), "{name}");
                let found = tensors(&model);
                for tensor in encoder.values.tensors.iter().chain(&encoder.pooler) {
                    let same = found.iter().find(|one| one.name == tensor.name).expect(&tensor.name);
                    assert!(same.values == tensor.values, "{name}: {}", tensor.name);
                }
                let classifier = found.iter().filter(|tensor| tensor.part == Part::Classifier);
                let sizes: Vec<f32> = classifier.map(|tensor| tensor.values.iter().map(|v| v.abs()).sum()).collect();
                let bias = if let Answer::Number(mean) = answer { mean as f32 } else { 0.0 };
                assert!(sizes[0] > 0.1 && sizes[1] == bias, "{name}: {sizes:?}");
                fs::remove_dir_all(&out).expect("removed");
            }
        }
        let error = Encoder::read(&fixtures.join("tiny-vit")).err().expect("an error").to_string();
        assert!(error.contains("it reads pictures, expected texts"), "{error}");
    }
}
