//! Every family: passes as the engine computes them, gradients of all parameters, and folders that the library reads back.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device};
use serde_json::Value;
use sttabt::training::{NetworkValues, Tokens, Which, values};
use sttabt::{InputConfig, Model, ModelFiles, Prune, Ratio, Task};

use crate::approx_net::smaller;
use crate::batch::{Batch, Padding};
use crate::concrete::maps;
use crate::data::Sample;
use crate::distill::{self, Teacher, Transfers};
use crate::elastic::{Keep, Pruned, Way, answers, kept_tokens, loss};
use crate::files::read_json;
use crate::folder::{Format, Written};
use crate::measure;
use crate::network::{Mode, Network, Source, Wanted};
use crate::optimizer::GradientValues;
use crate::parameters::{Parameters, Place};
use crate::random::Random;
use crate::select::{concrete_gates, top_k_gates};
use crate::thresholds::Calibration;

const FAMILIES: [&str; 15] = [
    "bert-embed-cls",
    "bert-gelu-new",
    "bert-multilabel",
    "bert-relu",
    "camembert-score",
    "deit",
    "deit-distilled",
    "dinov2-embed",
    "distilbert",
    "electra",
    "electra-same",
    "roberta",
    "roberta-embed-cls",
    "vit-gelu-tanh",
    "xlm-roberta",
];

/// A family's model, whose values are in one list with ApproxNet's.
struct Loaded {
    folder: PathBuf,
    model: Model,
    samples: Vec<Sample>,
    tokens: Vec<Tokens>,
    main_values: NetworkValues,
    approx_values: NetworkValues,
    place: Place,
    parameters: Parameters,
    main: Network,
    approx: Network,
}

fn load(name: &str) -> Option<Loaded> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/families").join(name);
    let model = Model::from_bytes(ModelFiles::from_dir(&folder).expect(name)).expect(name);
    // DINOv2's fixture reads pictures of another size than its table: refused.
    let main_values = match values(&model, Which::Main) {
        Err(error) => {
            assert!(name == "dinov2-embed" && error.to_string().contains("table of positions"), "{name}: {error}");
            return None;
        }
        Ok(found) => found.expect("a network"),
    };
    let approx_values = values(&model, Which::ApproxNet).expect(name).expect("an ApproxNet");
    let cases = read_json(&folder.join("cases.json")).expect(name);
    let sample = |case: &Value| match (&case["input"]["image"], &case["input"]["text"]) {
        (Value::String(image), _) => Sample::Picture(folder.join(image)),
        (_, text) => {
            let pair = case["input"]["text_pair"].as_str().map(str::to_owned);
            Sample::Text(text.as_str().unwrap_or_default().to_owned(), pair)
        }
    };
    let samples: Vec<Sample> = cases["cases"].as_array().expect("cases").iter().map(sample).collect();
    let tokens = samples.iter().enumerate().map(|(at, one)| one.tokens(&model, at, None).expect(name)).collect();
    let place = Place::new(Device::flex(), DType::F32);
    let mut parameters = Parameters::new(place.clone());
    let mut main = Network::new(&main_values, "", None, &mut parameters);
    main.pooling = model.pooling().map(|pooling| pooling.mode);
    let approx = Network::new(&approx_values, "approx/", None, &mut parameters);
    Some(Loaded { folder, model, samples, tokens, main_values, approx_values, place, parameters, main, approx })
}

impl Loaded {
    fn batch(&self) -> Batch {
        let tokens: Vec<&Tokens> = self.tokens.iter().collect();
        Batch::new(&tokens, &self.main.config.input, Padding::None, &self.place)
    }

    /// What the engine answers, vectors with length 1.
    fn expected(&self, rule: &str) -> Vec<f64> {
        let samples: Vec<&Sample> = self.samples.iter().collect();
        let prune: Prune = rule.parse().expect("a rule");
        let mut engine = measure::engine(&self.model).expect("an engine");
        let found = measure::answers(&mut engine, &samples, &prune).expect("answers").outputs;
        let normalised = |output: Vec<f32>| {
            let is_vector = self.main.config.task == Task::Embedding;
            let length = if is_vector { output.iter().map(|v| v * v).sum::<f32>().sqrt() } else { 1.0 };
            output.into_iter().map(move |value| f64::from(value / length))
        };
        found.into_iter().flat_map(normalised).collect()
    }
}

#[test]
fn passes_are_the_engines() {
    let mut num_compared = 0;
    for name in FAMILIES {
        let Some(loaded) = load(name) else { continue };
        let (batch, leaves) = (loaded.batch(), loaded.parameters.constants());
        for (rule, ratio) in [("dense", None), ("topk:0.3", Ratio::new(0.3)), ("topk:0.7", Ratio::new(0.7))] {
            let pruned =
                ratio.map(|ratio| Pruned::new(&loaded.approx, &leaves, &batch, Keep::TopK(ratio), &loaded.place));
            let pruned = pruned.transpose().expect(name);
            let way = pruned.as_ref().map_or(Way::Dense, Way::Pruned);
            let found = answers(&loaded.main, &leaves, &batch, &way);
            let found: Vec<f64> = found.try_into_vec_as().expect("values");
            let expected = loaded.expected(rule);
            assert_eq!(found.len(), expected.len(), "{name}, {rule}");
            let scale = expected.iter().fold(1.0, |scale: f64, value| scale.max(value.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 2e-5 * scale, "{name}, {rule}: {found}, expected {expected}");
            }
            num_compared += found.len();
        }
    }
    assert!(num_compared > 1000, "{num_compared} numbers");
}

/// Gates that are open for the kept tokens compute what the packed pass does.
#[test]
fn gates_are_the_pruned_pass() {
    for name in FAMILIES {
        let Some(loaded) = load(name) else { continue };
        let (batch, leaves) = (loaded.batch(), loaded.parameters.constants());
        let ratio = |ratio| Ratio::new(ratio).expect("a ratio");
        let top_k = [0.15, 0.4, 1.0].map(|share| Keep::TopK(ratio(share)));
        let concrete = [0.2, 0.5].map(|share| Keep::Concrete(ratio(share)));
        let wanted = Wanted { probs: true, scores: true, ..Wanted::default() };
        let pass = loaded.approx.run(&leaves, &batch, &Mode::Dense, wanted);
        for keep in top_k.into_iter().chain(concrete) {
            let (approx, place, rows) = (&loaded.approx, &loaded.place, &batch.rows);
            let gates = match keep {
                Keep::TopK(ratio) => top_k_gates(approx, &pass.probs, rows, Some(ratio), place).expect(name),
                Keep::Concrete(share) => {
                    let maps = maps(&pass.scores, rows);
                    let found = Calibration::of_batch(&maps, rows).p_logit(approx, share.get(), place);
                    concrete_gates(approx, &maps, rows, found.expect(name).0, place).expect(name)
                }
            };
            let kept = kept_tokens(approx, &leaves, &batch, keep, place).expect(name);
            for (layer, (gate, kept)) in gates.values.iter().zip(&kept).enumerate() {
                let values: Vec<f64> = gate.clone().try_into_vec_as().expect("values");
                let open: Vec<Vec<u32>> = values
                    .chunks(batch.rows.width)
                    .map(|row| (0..).zip(row).filter(|(_, value)| **value == 1.0).map(|(at, _)| at).collect())
                    .collect();
                assert_eq!(open, *kept, "{name}, layer {layer}, {keep:?}");
                assert!(values.iter().all(|&value| value == 0.0 || value == 1.0), "{name}, layer {layer}");
            }
            let pruned = Pruned::new(approx, &leaves, &batch, keep, place).expect(name);
            let values = |way: &Way<'_>| -> Vec<f64> {
                answers(&loaded.main, &leaves, &batch, way).try_into_vec_as().expect("values")
            };
            let (found, expected) = (values(&Way::Gated(&gates)), values(&Way::Pruned(&pruned)));
            let scale = expected.iter().fold(1.0, |scale: f64, value| scale.max(value.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() < 2e-5 * scale, "{name}: {found}, expected {expected}");
            }
        }
    }
}

#[test]
fn every_parameter_learns_or_is_listed() {
    for name in FAMILIES {
        let Some(mut loaded) = load(name) else { continue };
        let batch = loaded.batch();
        let small = smaller(&loaded.main_values, 2, &mut Random::new(1)).expect(name);
        let mut parameters = Parameters::new(loaded.place.clone());
        let student = Network::new(&small, "approx/", None, &mut parameters);
        let sizes = [loaded.main.config.hidden_size, student.config.hidden_size];
        let transfers = Transfers::random(&mut parameters, student.num_layers(), sizes, &mut Random::new(2));
        let constants = loaded.parameters.constants();
        let teacher = Teacher::new(&loaded.main, &constants, &batch);
        let leaves = parameters.leaves();
        let distilled = distill::loss(&teacher, &student, &transfers.expect("transfers"), &leaves, &batch);
        let gradients = leaves.gradients(distilled.total.backward());
        let gradients = GradientValues::read(&parameters, gradients).expect(name);
        let idle: Vec<String> = match student.config.task {
            Task::Embedding => {
                student.ids_after_last_map().iter().map(|&id| parameters.list[id].name.clone()).collect()
            }
            _ => Vec::new(),
        };
        let mut missing: Vec<String> = gradients.missing(&parameters).into_iter().map(str::to_owned).collect();
        let mut idle = idle;
        missing.sort();
        idle.sort();
        assert_eq!(missing, idle, "{name}");

        for id in loaded.approx.ids.clone() {
            loaded.parameters.list[id].is_trained = false;
        }
        let constants = loaded.parameters.constants();
        let parent = answers(&loaded.main, &constants, &batch, &Way::Dense).add_scalar(0.1);
        for ratio in [None, Ratio::new(0.4)] {
            let pruned =
                ratio.map(|ratio| Pruned::new(&loaded.approx, &constants, &batch, Keep::TopK(ratio), &loaded.place));
            let pruned = pruned.transpose().expect(name);
            let leaves = loaded.parameters.leaves();
            let way = pruned.as_ref().map_or(Way::Dense, Way::Pruned);
            let elastic = loss(&loaded.main, &leaves, &batch, &way, &parent);
            let gradients = leaves.gradients(elastic.total.backward());
            let gradients = GradientValues::read(&loaded.parameters, gradients).expect(name);
            assert_eq!(gradients.missing(&loaded.parameters), Vec::<&str>::new(), "{name} {ratio:?}");
            assert!(gradients.norm().expect("a norm") > 0.0, "{name}");
        }
    }
}

/// The divergence of a small network's attention from the large one's, before and after it is fitted.
fn divergence_by_fit(loaded: &Loaded) -> [f64; 2] {
    let batches = [loaded.batch()];
    let small = smaller(&loaded.main_values, 2, &mut Random::new(1)).expect("a network");
    let mut parameters = Parameters::new(loaded.place.clone());
    let student = Network::new(&small, "approx/", None, &mut parameters);
    let sizes = [loaded.main.config.hidden_size, student.config.hidden_size];
    let transfers = Transfers::random(&mut parameters, student.num_layers(), sizes, &mut Random::new(2));
    let transfers = transfers.expect("transfers");
    let constants = loaded.parameters.constants();
    let divergence = |parameters: &Parameters| {
        let teacher = Teacher::new(&loaded.main, &constants, &batches[0]);
        let loss = distill::loss(&teacher, &student, &transfers, &parameters.constants(), &batches[0]);
        let attention = loss.parts.iter().find(|(name, _)| *name == "attention").expect("a part").1.clone();
        attention.try_into_scalar::<f64>().expect("a number")
    };
    let before = divergence(&parameters);
    let source = Source { network: &loaded.main, leaves: &constants, batches: &batches };
    student.fit(&source, &transfers, &mut parameters).expect("a fit");
    [before, divergence(&parameters)]
}

#[test]
fn a_fitted_approx_net_knows_the_attention() {
    for name in FAMILIES {
        let Some(loaded) = load(name) else { continue };
        let [before, after] = divergence_by_fit(&loaded);
        assert!(after < 0.75 * before, "{name}: {before} before, {after} after");
    }
}

#[test]
fn folders_are_read_back() {
    for name in FAMILIES {
        let Some(loaded) = load(name) else { continue };
        let out = std::env::temp_dir().join(format!("sttabt-written-{}-{name}", std::process::id()));
        let p_logits = vec![0.5; loaded.main.num_layers()];
        let written = Written {
            model: &loaded.model,
            source: &loaded.folder,
            parameters: &loaded.parameters,
            main: &loaded.main,
            approx: Some((&loaded.approx, &loaded.approx_values)),
            p_logits: Some(&p_logits),
            ltp_thresholds: None,
            format: Format::F32,
        };
        written.write(&out, Some("topk:0.4")).expect(name);
        let files = ModelFiles::from_dir(&out).expect(name);
        let model = Model::from_bytes(files).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(model.p_logits(), Some(&*p_logits), "{name}");
        assert_eq!(model.default_prune().to_string(), "topk:0.4", "{name}");
        let again = Loaded { model, folder: out.clone(), ..loaded };
        let source = load(name).expect(name);
        for rule in ["dense", "topk:0.5"] {
            assert_eq!(again.expected(rule), source.expected(rule), "{name}, {rule}");
        }
        std::fs::remove_dir_all(out).expect("removed");
    }
}

/// The widths that cannot be divided are named.
#[test]
fn a_reduction_that_does_not_fit_is_refused() {
    let loaded = load("distilbert").expect("a model");
    let InputConfig::Text(_) = loaded.main.config.input else { return };
    let error = smaller(&loaded.main_values, 7, &mut Random::new(1)).map(|_| ()).expect_err("refused").to_string();
    assert!(error.starts_with("--reduction 7: the widths"), "{error}");
}

/// The hard pass of Learned Token Pruning answers as the engine's rule.
#[test]
fn removed_tokens_are_the_engines() {
    for (name, thresholds) in [("roberta", "0.02"), ("distilbert", "0.05"), ("camembert-score", "0.03")] {
        let loaded = load(name).expect(name);
        let value = thresholds.parse::<f64>().expect("a number");
        let thresholds_of_layers = vec![value; loaded.main.num_layers()];
        let (batch, leaves) = (loaded.batch(), loaded.parameters.constants());
        let found = crate::ltp::hard_logits(&loaded.main, &thresholds_of_layers, &leaves, &batch);
        let found: Vec<f64> = found.try_into_vec_as().expect("values");
        let expected = loaded.expected(&format!("ltp:{thresholds}"));
        assert_ne!(expected, loaded.expected("dense"), "{name}: nothing is removed");
        for (found, expected) in found.iter().zip(&expected) {
            assert!((found - expected).abs() < 2e-5 * expected.abs().max(1.0), "{name}: {found}, expected {expected}");
        }
    }
}
