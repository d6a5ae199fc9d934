//! `sttabt info`: the adapters of this machine, and what a model folder holds.

use std::io::{self, Write};

use sttabt::{InputConfig, Model, Need, PoolingMode, RULES, Task};

use super::args::InfoArgs;
use super::model_dir::{Kind, find, load, named};
use super::visible;
use super::{Failure, Result};

pub fn run(args: &InfoArgs) -> Result<()> {
    let mut out = io::stdout().lock();
    print_adapters(&mut out)?;
    out.flush()?;
    let folder = match find(&args.model, Kind::Text) {
        // Whoever named no model may have come for the adapters.
        Err(Failure::Error(message)) if named(&args.model).is_none() => {
            writeln!(out)?;
            for line in message.lines() {
                writeln!(out, "{}", visible(line))?;
            }
            return Ok(out.flush()?);
        }
        found => found?,
    };
    let model = load(&folder)?;
    writeln!(out, "\nmodel {}", visible(&folder.display().to_string()))?;
    print_model(&mut out, &model)?;
    out.flush()?;
    Ok(())
}

#[cfg(feature = "gpu")]
fn print_adapters(out: &mut impl Write) -> Result<()> {
    let adapters = pollster::block_on(sttabt::adapters());
    if adapters.is_empty() {
        writeln!(out, "no GPU adapter found; sttabt computes on the CPU")?;
    }
    for adapter in adapters {
        let kind = if adapter.software { "software, only with --backend gpu" } else { "hardware" };
        writeln!(out, "adapter {}", adapter.name)?;
        writeln!(out, "  type       {} ({kind})", adapter.device_type)?;
        writeln!(out, "  api        {}, driver {}", adapter.backend, adapter.driver)?;
        let mib = adapter.max_binding_bytes as f64 / f64::from(1 << 20);
        writeln!(out, "  limits     {mib:.0} MiB a binding, {} KiB a workgroup", adapter.max_workgroup_bytes / 1024)?;
        let features = if adapter.features.is_empty() { "none".to_owned() } else { adapter.features.join(", ") };
        writeln!(out, "  features   {features}")?;
    }
    Ok(())
}

#[cfg(not(feature = "gpu"))]
fn print_adapters(out: &mut impl Write) -> Result<()> {
    writeln!(out, "built without the feature `gpu`; sttabt computes on the CPU")?;
    Ok(())
}

fn print_model(out: &mut impl Write, model: &Model) -> Result<()> {
    let config = model.config();
    let amount = |count: u64| match count {
        ..1_000_000 => format!("{:.1} k", count as f64 / 1e3),
        _ => format!("{:.1} M", count as f64 / 1e6),
    };
    writeln!(
        out,
        "  {}, {} layers, hidden size {}, {} heads, intermediate size {}",
        config.family,
        config.num_hidden_layers,
        config.hidden_size,
        config.num_attention_heads,
        config.intermediate_size
    )?;
    writeln!(out, "  weights    {} as {}", amount(model.num_parameters()), model.weights_dtype())?;
    match &config.input {
        InputConfig::Text(text) => writeln!(
            out,
            "  input      texts of up to {} tokens, vocabulary of {}",
            text.max_position_embeddings, text.vocab_size
        )?,
        InputConfig::Image(image) => writeln!(
            out,
            "  input      images of {} x {} pixels in patches of {}, {} tokens",
            image.image_size[1],
            image.image_size[0],
            image.patch_size,
            image.num_tokens()
        )?,
    }
    if !model.default_prompt().is_empty() {
        let where_to = if config.task == Task::Embedding { "every text" } else { "the first text" };
        writeln!(out, "  prompt     {} (stands before {where_to})", visible(&format!("{:?}", model.default_prompt())))?;
    }
    let labels = match config.task {
        Task::Regression => format!("one number, {}", config.labels[0]),
        Task::Embedding => {
            let (mode, normalized) = match model.pooling() {
                Some(pooling) if pooling.mode == PoolingMode::Mean => ("mean of all tokens", pooling.normalize),
                pooling => ("[CLS]", pooling.is_some_and(|pooling| pooling.normalize)),
            };
            let length = if normalized { ", of length 1" } else { "" };
            let dim = model.pooling().and_then(|pooling| pooling.truncate_dim);
            let num_values = dim.map_or(config.hidden_size, |dim| dim.min(config.hidden_size));
            let cut = if num_values < config.hidden_size { ", of which these are the first" } else { "" };
            format!("an embedding of {num_values} numbers: {mode}{length}{cut}")
        }
        Task::MultiLabel => format!("any of {}", listed(&config.labels)),
        Task::Classification => listed(&config.labels),
    };
    writeln!(out, "  output     {}", visible(&labels))?;
    match (model.approx_config(), model.approx_num_parameters()) {
        (Some(approx), Some(count)) => {
            let factor = config.hidden_size as f64 / approx.hidden_size as f64;
            writeln!(
                out,
                "  ApproxNet  {}, hidden size {} (reduction factor {factor})",
                amount(count),
                approx.hidden_size
            )?;
        }
        _ => writeln!(out, "  ApproxNet  none: {}", without(Need::ApproxNet))?,
    }
    match model.p_logits() {
        Some(p_logits) => {
            let p_logits: Vec<String> = p_logits.iter().map(|p_logit| format!("{p_logit:.3}")).collect();
            // What rounds to zero has no sign.
            let p_logits = p_logits.iter().map(|text| if text == "-0.000" { "0.000" } else { text });
            writeln!(out, "  p_logit    {}", p_logits.collect::<Vec<_>>().join(" "))?;
        }
        None => writeln!(out, "  p_logit    none: {}", without(Need::PLogits))?,
    }
    if let Some(thresholds) = model.ltp_thresholds() {
        let thresholds: Vec<String> = thresholds.iter().map(|threshold| format!("{threshold:.4}")).collect();
        writeln!(out, "  ltp        {}", thresholds.join(" "))?;
    }
    writeln!(out, "  default    {}", model.default_prune())?;
    Ok(())
}

/// The rules that cannot run then: `no topk, no concrete`.
fn without(need: Need) -> String {
    let rules = RULES.iter().filter(|rule| rule.needs.contains(&need));
    rules.map(|rule| format!("no {}", rule.name)).collect::<Vec<_>>().join(", ")
}

/// The labels, or of many the first.
fn listed(labels: &[String]) -> String {
    match labels.get(..8) {
        Some(first) if labels.len() > 8 => format!("{} labels: {}, …", labels.len(), first.join(", ")),
        _ => labels.join(", "),
    }
}
