//! REPORT.md, report.json and the curve.

use std::path::Path;

use plotters::prelude::*;
use serde::Serialize;

use crate::checkpoint::write_whole;
use crate::error::{Error, Result};
use crate::measure::Line;

/// What a run says at its end.
#[derive(Serialize)]
pub struct Report {
    /// The source.
    pub model: String,
    /// Where the samples are from.
    pub data: String,
    /// Samples that were learned from, that chose the best state, and that are held back.
    pub samples: [usize; 3],
    /// Name and steps of each stage.
    pub stages: Vec<(String, usize)>,
    /// Of all random numbers.
    pub seed: u64,
    /// The dense parent.
    pub parent: Line,
    /// The new model's rules.
    pub rules: Vec<Line>,
    /// The rule for those who name none.
    pub default_prune: String,
    /// In points, what that rule may lose.
    pub max_loss: f64,
    /// What was left out of the data, what is not trained, and whether the run was ended early.
    pub notes: Vec<String>,
}

impl Report {
    /// In points, what a rule loses to the dense parent: of the metric where there are labels, else of the agreement.
    pub fn loss(parent: &Line, line: &Line) -> f64 {
        match (parent.metric, line.metric) {
            (Some(parent), Some(found)) => 100.0 * (parent - found),
            _ => 100.0 * (1.0 - line.agreement),
        }
    }

    /// The cheapest rule that loses at most so many points; `dense` where none does.
    pub fn choose(parent: &Line, rules: &[Line], max_loss: f64) -> String {
        let fits = rules.iter().filter(|line| Self::loss(parent, line) <= max_loss);
        let cheapest = fits.min_by(|one, other| one.gflops.total_cmp(&other.gflops));
        cheapest.map_or_else(|| "dense".to_owned(), |line| line.rule.clone())
    }

    /// Writes all three files.
    pub fn write(&self, out: &Path) -> Result<()> {
        let json = serde_json::to_string_pretty(self).map_err(|error| Error::content(out, error.to_string()))?;
        write_whole(&out.join("report.json"), format!("{json}\n").as_bytes())?;
        write_whole(&out.join("REPORT.md"), self.text().as_bytes())?;
        write_whole(&out.join("curve.svg"), self.curve()?.as_bytes())
    }

    fn text(&self) -> String {
        let [train, validation, held_back] = self.samples;
        let stages: Vec<String> = self.stages.iter().map(|(name, steps)| format!("{name} {steps} steps")).collect();
        let mut text = format!("# {}, pruned\n\n", self.model);
        text += &match stages.is_empty() {
            true => format!(
                "No training step: the model's weights are the source's. Thresholds were found on samples of {}, as were ratios for each \
                 layer, and an ApproxNet if the source has none. Seed {}.\n",
                self.data, self.seed
            ),
            false => format!(
                "Trained on {train} samples of {}: {}. Seed {}.\n{validation} more samples chose the best state. ",
                self.data,
                stages.join(", "),
                self.seed
            ),
        };
        text += &format!(
            "The numbers below are of {held_back} samples that no training saw,\nmeasured with the engine on this machine's CPU.\n\n"
        );
        let has_metric = self.parent.metric.is_some();
        text += if has_metric { "| rule | metric |" } else { "| rule |" };
        text += " = parent | distance | retention | GFLOPs | of dense | ms |\n";
        text += if has_metric { "|---|--:|" } else { "|---|" };
        text += "--:|--:|--:|--:|--:|--:|\n";
        let parent = Line { rule: "the dense parent".to_owned(), ..self.parent.clone() };
        for line in [&parent].into_iter().chain(&self.rules) {
            let metric = line.metric.map(|metric| format!(" {:.2} |", 100.0 * metric)).unwrap_or_default();
            text += &format!(
                "| {} |{metric} {:.2} | {:.3} | {:.3} | {:.3} | {:.1} % | {:.2} |\n",
                line.rule,
                100.0 * line.agreement,
                line.distance,
                line.retention,
                line.gflops,
                100.0 * line.flops_share,
                line.ms
            );
        }
        text += &format!(
            "\n`{}` is the default: the cheapest rule that loses at most {} points. Metric and agreement with the dense parent are in per cent;\n\
             distance is the mean absolute difference of the outputs; GFLOPs and ms are of one sample, ApproxNet included.\n\n![curve](curve.svg)\n",
            self.default_prune, self.max_loss
        );
        for note in &self.notes {
            text += &format!("\n- {note}");
        }
        text + "\n"
    }

    /// Agreement, and the metric if there is one, against the share of a dense pass's FLOPs.
    fn curve(&self) -> Result<String> {
        let mut svg = String::new();
        {
            // One ratio for all layers: those with more are points beside the line.
            let is_on_line =
                |line: &&Line| line.rule == "dense" || (line.rule.starts_with("topk") && !line.rule.contains(','));
            let mut top_k: Vec<&Line> = self.rules.iter().filter(is_on_line).collect();
            top_k.sort_by(|one, other| one.flops_share.total_cmp(&other.flops_share));
            let all = self.rules.iter().flat_map(|line| [Some(line.agreement), line.metric]).flatten();
            let lowest = (all.fold(1.0, f64::min) * 20.0).floor() / 20.0;
            let area = SVGBackend::with_string(&mut svg, (640, 400)).into_drawing_area();
            area.fill(&WHITE).map_err(wrong)?;
            let mut chart = ChartBuilder::on(&area)
                .margin(12)
                .x_label_area_size(36)
                .y_label_area_size(48)
                .build_cartesian_2d(0.0..1.15, lowest..1.0)
                .map_err(wrong)?;
            let mesh = &mut chart.configure_mesh();
            mesh.x_desc("FLOPs of a dense pass").y_desc("agreement; metric").draw().map_err(wrong)?;
            type Value = fn(&Line) -> Option<f64>;
            let curves: [(Value, &RGBColor); 2] = [(|line| Some(line.agreement), &BLUE), (|line| line.metric, &RED)];
            for (value, colour) in curves {
                let point = |line: &&Line| Some((line.flops_share, value(line)?));
                chart.draw_series(LineSeries::new(top_k.iter().filter_map(point), colour)).map_err(wrong)?;
                let points = self.rules.iter().filter_map(|line| point(&line));
                chart.draw_series(points.map(|point| Circle::new(point, 3, colour.filled()))).map_err(wrong)?;
            }
            area.present().map_err(wrong)?;
        }
        Ok(svg)
    }
}

fn wrong(error: impl std::fmt::Display) -> Error {
    Error::Failed(format!("the curve: {error}"))
}
