//! From the body of a request to inputs of the model, and from what comes out to the body of the answer.

use axum::http::StatusCode;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sttabt::{Error, Input, Model, Prepared, Prune, PruneMode, Task};

use super::super::text_input;
use super::queue::Output;
use super::refusal::{Kind, Refusal};
use super::requests::{Direction, EmbedRequest, PredictInputs, PredictRequest, RerankRequest, TextOrPair, Texts};

type Result<T> = std::result::Result<T, Refusal>;

/// Where a model's answers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    Rerank,
    Predict,
    Embed,
}

impl Route {
    pub fn name(self) -> &'static str {
        match self {
            Self::Rerank => "rerank",
            Self::Predict => "predict",
            Self::Embed => "embed",
        }
    }
}

/// What the server was started with.
pub struct Defaults {
    pub prune: Prune,
    pub truncate: bool,
    /// Inputs of one request.
    pub max_inputs: usize,
}

/// A request that can be computed.
pub struct Asked {
    pub inputs: Vec<Prepared>,
    pub prune: Prune,
    pub form: Form,
}

/// What is made of the outputs.
pub enum Form {
    Rerank {
        /// Those that come back.
        texts: Option<Vec<String>>,
        raw_scores: bool,
    },
    Predict {
        /// A list of lists.
        many: bool,
        raw_scores: bool,
    },
    Embed {
        normalize: bool,
        dimensions: Option<usize>,
    },
}

#[derive(Serialize)]
struct Rank {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    score: f32,
}

#[derive(Serialize)]
struct Prediction<'a> {
    score: f32,
    label: &'a str,
}

impl Asked {
    pub fn read(model: &Model, defaults: &Defaults, route: Route, body: &[u8]) -> Result<Self> {
        let (inputs, prune, truncate, form) = match route {
            Route::Rerank => {
                let request: RerankRequest = parse(body)?;
                check_direction(model, request.truncation_direction)?;
                check_count("texts", request.texts.len(), defaults)?;
                if request.query.trim().is_empty() {
                    return Err(Refusal::empty("`query` is empty, expected at least one word"));
                }
                let texts: Vec<&str> = request.texts.iter().map(String::as_str).collect();
                let inputs = model.read_passages(&request.query, &texts)?;
                let texts = request.return_text.then_some(request.texts);
                let form = Form::Rerank { texts, raw_scores: request.raw_scores };
                (inputs, request.prune, request.truncate, form)
            }
            Route::Predict => {
                let request: PredictRequest = parse(body)?;
                check_direction(model, request.truncation_direction)?;
                let (inputs, many) = match request.inputs {
                    PredictInputs::One(input) => (vec![input], false),
                    PredictInputs::Many(inputs) => (inputs, true),
                };
                let inputs = read(model, &inputs, defaults)?;
                (inputs, request.prune, request.truncate, Form::Predict { many, raw_scores: request.raw_scores })
            }
            Route::Embed => {
                let request: EmbedRequest = parse(body)?;
                check_direction(model, request.truncation_direction)?;
                check_vector(model, &request)?;
                let Texts(texts) = request.inputs;
                let texts: Vec<TextOrPair> = texts.into_iter().map(|text| (text, None)).collect();
                let form = Form::Embed { normalize: request.normalize, dimensions: request.dimensions };
                (read(model, &texts, defaults)?, request.prune, request.truncate, form)
            }
        };
        let prune = rule(model, prune.as_deref())?.unwrap_or_else(|| defaults.prune.clone());
        if !truncate.unwrap_or(defaults.truncate)
            && let Some(index) = inputs.iter().position(Prepared::truncated)
        {
            let (name, most) = (form.input(index), model.max_tokens());
            return Err(Refusal::validation(format!(
                "{name} has more tokens than the {most} that the model reads at once; shorten it, or have it cut with `truncate`"
            )));
        }
        Ok(Self { inputs, prune, form })
    }
}

/// Broken JSON is 400, and JSON of another form 422.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T> {
    serde_json::from_slice(body).map_err(|error| {
        if error.is_data() {
            return Refusal::validation(error.to_string());
        }
        Refusal::new(StatusCode::BAD_REQUEST, Kind::Validation, format!("the body is no JSON: {error}"))
    })
}

fn check_count(name: &str, count: usize, defaults: &Defaults) -> Result<()> {
    let most = defaults.max_inputs;
    match count {
        0 => Err(Refusal::empty(format!("`{name}` is empty, expected at least one text"))),
        _ if count > most => Err(Refusal::validation(format!(
            "`{name}` has {count} texts, and a request may have {most} (the server's --max-client-batch-size)"
        ))),
        _ => Ok(()),
    }
}

/// Texts are cut on the side that the model's files name.
fn check_direction(model: &Model, asked: Option<Direction>) -> Result<()> {
    let (own, words) = if model.truncates_left() {
        (Direction::Left, "`Left`: long texts of this model lose their beginning")
    } else {
        (Direction::Right, "`Right`: long texts of this model lose their end")
    };
    match asked {
        Some(asked) if asked != own => {
            Err(Refusal::validation(format!("`truncation_direction` is `{asked:?}`, expected {words}")))
        }
        _ => Ok(()),
    }
}

/// What is asked of vectors, and the engine does not give.
fn check_vector(model: &Model, request: &EmbedRequest) -> Result<()> {
    if request.prompt_name.is_some() {
        return Err(Refusal::validation(
            "`prompt_name` is not supported: write the prompt before each text (the model's default prompt is there already)",
        ));
    }
    let Some(pooling) = model.pooling() else { return Ok(()) };
    if !request.normalize && pooling.normalize {
        return Err(Refusal::validation(
            "`normalize` is false, and the vectors of this model have the length 1 by its files: leave it out",
        ));
    }
    let whole = model.config().hidden_size;
    let most = pooling.truncate_dim.map_or(whole, |dim| dim.min(whole));
    match request.dimensions {
        Some(dimensions) if dimensions == 0 || dimensions > most => {
            Err(Refusal::validation(format!("`dimensions` is {dimensions}, expected 1 to {most}")))
        }
        _ => Ok(()),
    }
}

/// The rule of a request that names one.
fn rule(model: &Model, text: Option<&str>) -> Result<Option<Prune>> {
    let Some(text) = text else { return Ok(None) };
    let refused = |error: Error| Refusal::validation(format!("`prune`: {error}"));
    match text.parse().map_err(refused)? {
        PruneMode::Rule(rule) => {
            model.check_rule(&rule).map_err(refused)?;
            Ok(Some(rule))
        }
        PruneMode::Auto(_) => {
            Err(Refusal::validation("`prune`: `auto` is not served; name a rule, for example topk:0.5"))
        }
    }
}

fn read(model: &Model, inputs: &[TextOrPair], defaults: &Defaults) -> Result<Vec<Prepared>> {
    check_count("inputs", inputs.len(), defaults)?;
    let is_blank =
        |(text, pair): &TextOrPair| text.trim().is_empty() && pair.as_ref().is_none_or(|pair| pair.trim().is_empty());
    if let Some(index) = inputs.iter().position(is_blank) {
        return Err(Refusal::empty(format!("input {} is empty, expected at least one word", index + 1)));
    }
    let inputs: Vec<Input<'_>> = inputs.iter().map(|(text, pair)| text_input(text, pair.as_deref())).collect();
    Ok(model.read(&inputs)?)
}

impl Form {
    /// How messages call an input.
    pub fn input(&self, index: usize) -> String {
        match self {
            Self::Rerank { .. } => format!("passage {}", index + 1),
            Self::Predict { .. } | Self::Embed { .. } => format!("input {}", index + 1),
        }
    }

    /// The body of the answer; one output for each input.
    pub fn answer(self, model: &Model, outputs: Vec<Output>) -> serde_json::Result<Vec<u8>> {
        match self {
            Self::Rerank { texts, raw_scores } => {
                let mut texts = texts.unwrap_or_default();
                let first = |values: &[f32]| values.first().copied().unwrap_or_default();
                // By the logit, since scores near 1 are equal where it is not.
                let order = best_first(outputs.iter().map(|output| first(&output.logits)));
                let rank = |index: usize| {
                    let output = &outputs[index];
                    let score = first(if raw_scores { &output.logits } else { &output.probs });
                    Rank { index, text: texts.get_mut(index).map(std::mem::take), score }
                };
                serde_json::to_vec(&order.into_iter().map(rank).collect::<Vec<Rank>>())
            }
            Self::Predict { many, raw_scores } => {
                let labels = &model.config().labels;
                let predictions = |output: &Output| -> Vec<Prediction<'_>> {
                    let scores = if raw_scores { &output.logits } else { &output.probs };
                    let order = best_first(output.logits.iter().copied());
                    order.into_iter().map(|at| Prediction { score: scores[at], label: &labels[at] }).collect()
                };
                match (many, outputs.first()) {
                    (false, Some(only)) => serde_json::to_vec(&predictions(only)),
                    _ => serde_json::to_vec(&outputs.iter().map(predictions).collect::<Vec<_>>()),
                }
            }
            Self::Embed { normalize, dimensions } => {
                let pooling = model.pooling();
                let vector = |mut vector: Vec<f32>| {
                    let whole = model.config().hidden_size;
                    vector.truncate(dimensions.unwrap_or(usize::MAX));
                    // A whole vector that has the length 1 by the model's files stays as it is, bit for bit.
                    let has_length_1 = pooling.is_some_and(|pooling| pooling.normalize) && vector.len() == whole;
                    if normalize && !has_length_1 {
                        let sum: f64 = vector.iter().map(|value| f64::from(*value).powi(2)).sum();
                        let length = sum.sqrt().max(f64::MIN_POSITIVE);
                        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
                    }
                    vector
                };
                let vectors = outputs.into_iter().map(|output| vector(output.embedding));
                serde_json::to_vec(&vectors.collect::<Vec<_>>())
            }
        }
    }
}

/// Places by falling values; of equal ones the first comes first.
fn best_first(values: impl Iterator<Item = f32>) -> Vec<usize> {
    let values: Vec<f32> = values.collect();
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[b].partial_cmp(&values[a]).unwrap_or(std::cmp::Ordering::Equal));
    order
}

/// The routes of a model, its own first.
pub fn routes(model: &Model) -> Vec<Route> {
    match (model.config().task, model.config().labels.len()) {
        (Task::Embedding, _) => vec![Route::Embed],
        (_, 1) => vec![Route::Rerank, Route::Predict],
        _ => vec![Route::Predict],
    }
}
