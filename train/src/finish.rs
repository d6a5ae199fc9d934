//! After the last step: the folder, and what it measures.

use sttabt::training::NetworkValues;
use sttabt::{Model, ModelFiles, Prune};

use crate::data::{Data, Sample, Split};
use crate::error::Result;
use crate::folder::{Format, Written, choose_default};
use crate::funnel::Funnel;
use crate::loss::Label;
use crate::measure::{Line, answers, engine};
use crate::network::Network;
use crate::parameters::Parameters;
use crate::report::Report;
use crate::run_args::RunArgs;

/// Ratios of reports and figures.
pub const RATIOS: [f64; 9] = [0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

/// A run whose steps are done.
pub struct Finished<'a> {
    pub run: &'a RunArgs,
    pub model: &'a Model,
    pub data: &'a Data,
    pub split: &'a Split,
    pub parameters: &'a Parameters,
    pub main: &'a Network,
    pub approx: Option<(&'a Network, &'a NetworkValues)>,
    pub p_logits: Option<Vec<f32>>,
    pub ltp_thresholds: Option<Vec<f32>>,
    /// What fits ratios per layer, and to which mean retentions.
    pub funnel: Option<(Funnel<'a>, Vec<f64>)>,
    pub stages: Vec<(String, usize)>,
    pub notes: Vec<String>,
}

impl Finished<'_> {
    /// Writes the folder, measures the rules that are asked for, else all that it has what they need for, and writes the report.
    pub fn write(self, print: &mut dyn FnMut(&str)) -> Result<()> {
        let Self { run: args, model, data, split, stages, mut notes, .. } = self;
        let written = Written {
            model,
            source: &args.model,
            parameters: self.parameters,
            main: self.main,
            approx: self.approx,
            p_logits: self.p_logits.as_deref(),
            ltp_thresholds: self.ltp_thresholds.as_deref(),
            format: if args.f32 { Format::F32 } else { Format::F16 },
        };
        written.write(&args.out, None)?;
        let result = Model::from_bytes(ModelFiles::from_dir(&args.out)?)?;
        let samples: Vec<&Sample> = split.held_back.iter().map(|&at| &data.samples[at]).collect();
        let labels: Option<Vec<Label>> =
            data.labels.as_ref().map(|labels| split.held_back.iter().map(|&at| labels[at]).collect());
        let task = model.config().task;
        let parent = answers(&mut engine(model)?, &samples, &Prune::Dense)?;
        let parent_line = Line::new("dense", task, &parent, &parent, labels.as_deref());
        let asked = args.report_rules()?;
        let mut rules = asked.clone().unwrap_or_else(all_rules);
        let mut device = engine(&result)?;
        let stands_top_k = Prune::top_k(1.0).is_some_and(|top_k| result.lacks(&top_k).is_none());
        if let Some((funnel, retentions)) = self.funnel.filter(|_| stands_top_k) {
            for fitted in funnel.fit(&mut device, &retentions)? {
                print(&format!("{}\n", fitted.note));
                notes.push(fitted.note);
                if !rules.contains(&fitted.prune) {
                    rules.push(fitted.prune);
                }
            }
        }
        let mut lines = Vec::new();
        for prune in [Prune::Dense].into_iter().chain(rules.into_iter().filter(|prune| !prune.is_dense())) {
            // With mean pooling every token counts: some rules cannot be.
            if let Some(need) = result.lacks(&prune) {
                if asked.is_some() {
                    notes.push(format!("`{prune}` is not in the table: it needs {need}"));
                }
                continue;
            }
            let found = answers(&mut device, &samples, &prune)?;
            lines.push(Line::new(&prune.to_string(), task, &found, &parent, labels.as_deref()));
        }
        let default_prune = Report::choose(&parent_line, &lines, args.max_loss);
        choose_default(&args.out, Some(&default_prune))?;
        let report = Report {
            model: args.model.display().to_string(),
            data: args.data.path().display().to_string(),
            samples: [split.train.len(), split.validation.len(), split.held_back.len()],
            stages,
            seed: args.seed,
            parent: parent_line,
            rules: lines,
            default_prune,
            max_loss: args.max_loss,
            notes,
        };
        report.write(&args.out)?;
        print(&format!("{}: the report is in REPORT.md\n", args.out.display()));
        Ok(())
    }
}

/// `topk` at all ratios, and what has thresholds.
fn all_rules() -> Vec<Prune> {
    let top_k = RATIOS.into_iter().rev().filter_map(Prune::top_k);
    top_k.chain([Prune::Concrete, Prune::Ltp(None)]).collect()
}
