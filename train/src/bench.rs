//! `sttabt-train bench`: how long a step takes, dense and pruned in turn.

use std::path::PathBuf;
use std::time::Instant;

use burn::tensor::{DType, Device};
use clap::Args;
use sttabt::training::{TextTokens, Tokens, Which, values};
use sttabt::{InputConfig, Model, ModelFiles, Ratio};

use crate::approx_net::smaller;
use crate::batch::{Batch, Padding};
use crate::elastic::{Keep, Pruned, Way, answers, loss};
use crate::error::{Error, Result};
use crate::network::Network;
use crate::optimizer::{AdamW, GradientValues};
use crate::parameters::{Parameters, Place};
use crate::random::Random;
use crate::recipe::Recipe;

/// Arguments of `bench`.
#[derive(Args)]
pub struct BenchArgs {
    /// A model folder
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// Samples of a batch
    #[arg(long, default_value_t = 32)]
    pub batch: usize,
    /// Tokens of each text
    #[arg(long, default_value_t = 24)]
    pub tokens: usize,
    /// The pruned step's ratio
    #[arg(long, default_value_t = 0.2)]
    pub ratio: f64,
    /// Steps of each kind
    #[arg(long, default_value_t = 5)]
    pub steps: usize,
}

/// Prints the median time of both kinds of step.
pub fn run(args: &BenchArgs, device: &Device, mut print: impl FnMut(&str)) -> Result<()> {
    let model = Model::from_bytes(ModelFiles::from_dir(&args.model)?)?;
    let ratio = Ratio::new(args.ratio)
        .ok_or_else(|| Error::Usage(format!("--ratio {}: expected more than 0 and at most 1", args.ratio)))?;
    let missing = || Error::content(&args.model, "no network in it");
    let main_values = values(&model, Which::Main)?.ok_or_else(missing)?;
    let place = Place::new(device.clone(), DType::F32);
    let mut random = Random::new(1);
    let approx_values = match values(&model, Which::ApproxNet)? {
        Some(found) => found,
        None => smaller(&main_values, 4, &mut random)?,
    };
    let mut parameters = Parameters::new(place.clone());
    let main = Network::new(&main_values, "", None, &mut parameters);
    let mut others = Parameters::new(place.clone());
    let approx = Network::new(&approx_values, "approx/", None, &mut others);
    let approx_leaves = others.constants();
    let samples: Vec<Tokens> = (0..args.batch).map(|_| sample(&main, args.tokens, &mut random)).collect();
    let samples: Vec<&Tokens> = samples.iter().collect();
    let batch = Batch::new(&samples, &main.config.input, Padding::None, &place);
    let parent = answers(&main, &parameters.constants(), &batch, &Way::Dense);
    let recipe = Recipe {
        rate: 1e-5,
        decay: 0.01,
        approx_factor: 1.0,
        threshold_factor: 1.0,
        clip: Some(0.5),
        decays_matrices_only: false,
        trains_cls_token: true,
    };
    let mut optimizer = AdamW::new(recipe.groups(&parameters), recipe.clip);
    let mut times = [Vec::new(), Vec::new()];
    let mut retention = 0.0;
    for _ in 0..args.steps + 1 {
        for (kind, times) in times.iter_mut().enumerate() {
            let start = Instant::now();
            let mut parts = Vec::new();
            let mut lap = |name: &'static str| parts.push((name, start.elapsed().as_secs_f64() * 1e3));
            let pruned = match kind {
                0 => None,
                _ => Some(Pruned::new(&approx, &approx_leaves, &batch, Keep::TopK(ratio), &place)?),
            };
            lap("kept");
            retention = pruned.as_ref().map_or(retention, |pruned| pruned.retention);
            let leaves = parameters.leaves();
            let loss = loss(&main, &leaves, &batch, &pruned.as_ref().map_or(Way::Dense, Way::Pruned), &parent);
            lap("forward");
            let gradients = leaves.gradients(loss.total.backward());
            drop((leaves, loss));
            lap("backward");
            let gradients = GradientValues::read(&parameters, gradients)?;
            optimizer.step(&mut parameters, &gradients, recipe.rate)?;
            lap("step");
            times.push(parts);
        }
    }
    for (name, mut times) in ["dense", "pruned"].into_iter().zip(times) {
        // The first one warms up.
        times.remove(0);
        times.sort_by(|one, other| one[3].1.total_cmp(&other[3].1));
        let parts: Vec<String> = times[times.len() / 2].iter().map(|(name, ms)| format!("{name} {ms:.1}")).collect();
        print(&format!("{name}: {:.1} ms (until {})\n", times[times.len() / 2][3].1, parts.join(", ")));
    }
    print(&format!("ratio {}, mean retention {retention:.3}\n", args.ratio));
    Ok(())
}

/// A text of this many random tokens, or a grey picture.
fn sample(network: &Network, num_tokens: usize, random: &mut Random) -> Tokens {
    match &network.config.input {
        InputConfig::Text(text) => Tokens::Text(TextTokens {
            input_ids: (0..num_tokens).map(|_| random.below(text.vocab_size) as u32).collect(),
            token_type_ids: vec![0; num_tokens],
            tokens: Vec::new(),
            truncated: false,
        }),
        InputConfig::Image(image) => {
            let num_tokens = image.num_tokens();
            let rows = (0..num_tokens * image.patch_values()).map(|_| random.between(-1.0, 1.0)).collect();
            Tokens::Patches { rows, num_tokens, picture: None }
        }
    }
}
