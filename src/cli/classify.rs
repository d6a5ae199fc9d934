//! `sttabt classify`: texts in, surviving tokens out.

use std::io::{self, Read, Write};
use std::time::Instant;

use serde::Serialize;
use sttabt::{Classification, Engine, Input, Model, Outputs, Prune, Task};

use super::args::ClassifyArgs;
use super::model_dir::{find, load, unreadable};
use super::{Failure, Result, draw, open_engine};

/// An input's own strings.
type Texts = (String, Option<String>);

pub fn run(args: &ClassifyArgs) -> Result<()> {
    let inputs = inputs(args)?;
    let folder = find(&args.model)?;
    let model = load(&folder)?;
    let prune = args.prune.clone().unwrap_or_else(|| model.default_prune());
    let mut engine = open_engine(&model, &args.device)?;
    let requests: Vec<Input<'_>> = inputs
        .iter()
        .map(|(text, pair)| match pair {
            Some(pair) => Input::Pair(text, pair),
            None => Input::Text(text),
        })
        .collect();
    let start = Instant::now();
    let results = pollster::block_on(engine.classify(&requests, &prune, &Outputs::default()))?;
    let ms = start.elapsed().as_secs_f64() * 1e3;
    if args.json {
        let report = Report::new(folder.display().to_string(), &engine, &prune, &inputs, &results, ms);
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &report)?;
        writeln!(out)?;
        out.flush()?;
    } else {
        print(&model, &engine, &prune, &results, ms)?;
    }
    Ok(())
}

fn print(model: &Model, engine: &Engine, prune: &Prune, results: &[Classification], ms: f64) -> Result<()> {
    let mut out = anstream::stdout().lock();
    let width = terminal_size::terminal_size().map_or(100, |(width, _)| usize::from(width.0));
    for (index, result) in results.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        draw::layers(&mut out, result, width)?;
        writeln!(out)?;
        let label = draw::visible(&result.label);
        let answer = match model.config().task {
            Task::Classification => format!("{label} {:.1} %", 100.0 * result.probs[result.label_index]),
            Task::Regression => format!("{label} {:.3}", result.logits[0]),
        };
        draw::summary(&mut out, result, &answer)?;
    }
    let backend = engine.backend();
    let device = if backend.backend == "cpu" { String::new() } else { format!(" ({})", backend.adapter) };
    let batch = if results.len() == 1 { String::new() } else { format!(" for {} inputs", results.len()) };
    writeln!(out, "\n{prune} on {}{device}: {ms:.1} ms{batch}", backend.backend)?;
    out.flush()?;
    Ok(())
}

/// The inputs of TEXT…, `-` and `--file`, in that order.
fn inputs(args: &ClassifyArgs) -> Result<Vec<Texts>> {
    let mut inputs = Vec::new();
    let from_stdin = args.texts.iter().filter(|text| *text == "-").count();
    if from_stdin > 1 {
        return Err(Failure::Usage("`-` reads standard input, which can be read only once".to_owned()));
    }
    if args.pair && from_stdin == 0 {
        if !args.texts.len().is_multiple_of(2) {
            let message = format!("--pair takes texts two by two, and there are {}", args.texts.len());
            return Err(Failure::Usage(message));
        }
        inputs.extend(args.texts.chunks_exact(2).map(|pair| (pair[0].clone(), Some(pair[1].clone()))));
    } else {
        for text in &args.texts {
            if text == "-" {
                let mut bytes = Vec::new();
                io::stdin().read_to_end(&mut bytes).map_err(|error| unreadable("standard input".as_ref(), &error))?;
                inputs.extend(lines("standard input", bytes, args.pair)?);
            } else if args.pair {
                return Err(Failure::Usage("with --pair, `-` stands alone: its lines hold both texts".to_owned()));
            } else {
                inputs.push((text.clone(), None));
            }
        }
    }
    if let Some(path) = &args.file {
        let bytes = std::fs::read(path).map_err(|error| unreadable(path, &error))?;
        inputs.extend(lines(&path.display().to_string(), bytes, args.pair)?);
    }
    if inputs.is_empty() {
        return Err(Failure::Usage(
            "nothing to classify: give a TEXT, `-` or --file (see sttabt classify --help)".to_owned(),
        ));
    }
    Ok(inputs)
}

/// One input per line; with `pair`, a tab between its two texts.
fn lines(source: &str, bytes: Vec<u8>, pair: bool) -> Result<Vec<Texts>> {
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            1 + error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|&&byte| byte == b'\n').count();
        Failure::Error(format!("{source}, line {line}: not UTF-8"))
    })?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let inputs = text.lines().enumerate().map(|(index, line)| {
        let error = |what: &str| Err(Failure::Error(format!("{source}, line {}: {what}", index + 1)));
        let (first, second) = match (pair, line.split_once('\t')) {
            (true, Some((first, second))) => (first, Some(second)),
            (true, None) => return error("no tab, expected two texts with a tab between them"),
            (false, _) => (line, None),
        };
        if first.trim().is_empty() || second.is_some_and(|second| second.trim().is_empty()) {
            return error("a text is empty, expected at least one word");
        }
        Ok((first.to_owned(), second.map(str::to_owned)))
    });
    inputs.collect()
}

#[derive(Serialize)]
struct Report<'a> {
    model: String,
    backend: &'a str,
    adapter: &'a str,
    prune: String,
    results: Vec<ReportResult<'a>>,
}

#[derive(Serialize)]
struct ReportResult<'a> {
    text: &'a str,
    text_pair: Option<&'a str>,
    tokens: &'a [String],
    input_ids: &'a [u32],
    logits: &'a [f32],
    probs: &'a [f32],
    label: &'a str,
    kept: &'a [Vec<u32>],
    retention: f64,
    flops: ReportFlops,
    truncated: bool,
    ms: f64,
}

#[derive(Serialize)]
struct ReportFlops {
    dense: u64,
    pruned: u64,
    approx: u64,
    total: u64,
}

impl<'a> Report<'a> {
    fn new(
        model: String,
        engine: &'a Engine,
        prune: &Prune,
        inputs: &'a [Texts],
        results: &'a [Classification],
        ms: f64,
    ) -> Self {
        let results = inputs.iter().zip(results).map(|((text, pair), result)| ReportResult {
            text,
            text_pair: pair.as_deref(),
            tokens: &result.tokens,
            input_ids: &result.input_ids,
            logits: &result.logits,
            probs: &result.probs,
            label: &result.label,
            kept: &result.kept,
            retention: result.retention,
            flops: ReportFlops {
                dense: result.flops.dense,
                pruned: result.flops.pruned,
                approx: result.flops.approx,
                total: result.flops.total(),
            },
            truncated: result.truncated,
            // The batch ran as one, so this is its time divided by its inputs.
            ms: ms / inputs.len() as f64,
        });
        let backend = engine.backend();
        Self {
            model,
            backend: backend.backend,
            adapter: &backend.adapter,
            prune: prune.to_string(),
            results: results.collect(),
        }
    }
}
