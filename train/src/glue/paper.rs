//! The curves of the paper's own figure, from its authors' result files.

use std::path::Path;

use serde_json::Value;

use super::args::Curve;
use crate::error::{Error, Result};
use crate::files::read_json;

/// Points of a curve, by retention.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Line(Vec<(f64, f64)>);

impl Line {
    /// Retention and metric of each point.
    pub fn new(mut points: Vec<(f64, f64)>) -> Self {
        points.sort_by(|one, other| one.0.total_cmp(&other.0));
        Self(points)
    }

    /// By retention.
    pub fn points(&self) -> &[(f64, f64)] {
        &self.0
    }

    /// Between two points on the straight line through them; `None` beyond the ends, and for less than two points.
    pub fn at(&self, retention: f64) -> Option<f64> {
        let pair = self.0.windows(2).find(|pair| pair[0].0 <= retention && retention <= pair[1].0)?;
        let [(low, from), (high, to)] = [pair[0], pair[1]];
        let share = if high > low { (retention - low) / (high - low) } else { 0.5 };
        Some(from + share * (to - from))
    }
}

/// What the paper has of one task.
#[derive(Debug, Clone, PartialEq)]
pub struct PaperTask {
    /// BERT-base without pruning.
    pub dense: f64,
    /// Those that we have too.
    pub lines: Vec<(Curve, Line)>,
}

impl PaperTask {
    /// One of the curves.
    pub fn line(&self, curve: Curve) -> Option<&Line> {
        self.lines.iter().find(|(found, _)| *found == curve).map(|(_, line)| line)
    }
}

/// The file, whose tasks are looked up one by one.
pub struct Paper {
    path: std::path::PathBuf,
    tasks: Value,
}

const BERT: &str = "glue_bert_base";
/// What the file calls the curves. The paper's `topk`, `oracle` and `forward` are of the fine-tuned model, not trained further.
const LINES: [(Curve, &str); 5] = [
    (Curve::Topk, "topk_approx"),
    (Curve::Concrete, "concrete_trained"),
    (Curve::Ltp, "ltp"),
    (Curve::Forward, "forward_topk"),
    (Curve::Oracle, "topk_oracle"),
];
/// And the metrics.
const METRICS: [(&str, &str); 3] = [("accuracy", "acc"), ("matthews", "matthews_correlation"), ("pearson", "pearson")];

impl Paper {
    /// Reads the file.
    pub fn read(path: &Path) -> Result<Self> {
        let tasks = read_json(path)?.get(BERT).cloned();
        let missing = || Error::content(path, format!("no `{BERT}`; expected the paper's results, paper_results.json"));
        Ok(Self { path: path.to_owned(), tasks: tasks.ok_or_else(missing)? })
    }

    /// What it has of a task that is measured by this metric; `None` for a task that is not in the paper.
    pub fn task(&self, name: &str, metric: &str) -> Result<Option<PaperTask>> {
        let Some(task) = self.tasks.get(name) else { return Ok(None) };
        let wrong = |what: String| Error::content(&self.path, format!("`{BERT}.{name}`: {what}"));
        let expected = METRICS.iter().find(|(ours, _)| *ours == metric).map(|(_, theirs)| *theirs);
        if task["metric"].as_str() != expected {
            let expected = expected.unwrap_or(metric);
            return Err(wrong(format!("the metric is {}, expected \"{expected}\"", task["metric"])));
        }
        let dense = task["dense"].as_f64().ok_or_else(|| wrong("no number `dense`".to_owned()))?;
        let numbers = |value: &Value| -> Option<Vec<f64>> { value.as_array()?.iter().map(Value::as_f64).collect() };
        let mut lines = Vec::new();
        for (curve, key) in LINES {
            let Some(found) = task.get(key) else { continue };
            let both = numbers(&found[0]).zip(numbers(&found[1])).filter(|(one, other)| one.len() == other.len());
            let both = both.ok_or_else(|| wrong(format!("`{key}`: expected retentions and as many metrics")))?;
            lines.push((curve, Line::new(both.0.into_iter().zip(both.1).collect())));
        }
        Ok(Some(PaperTask { dense, lines }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn between_two_points() {
        let line = Line::new(vec![(0.5, 0.9), (0.1, 0.5), (0.3, 0.8)]);
        assert_eq!(line.points()[0], (0.1, 0.5));
        let close = |retention: f64, expected: f64| {
            let found = line.at(retention).expect("a number");
            assert!((found - expected).abs() < 1e-12, "{found}, expected {expected}");
        };
        close(0.1, 0.5);
        close(0.2, 0.65);
        close(0.3, 0.8);
        close(0.4, 0.85);
        close(0.5, 0.9);
        assert_eq!((line.at(0.09), line.at(0.51)), (None, None));
        assert_eq!(Line::new(vec![(0.3, 0.8)]).at(0.3), None);
        assert_eq!(Line::new(vec![(0.3, 0.8), (0.3, 0.9)]).at(0.3).map(|found| (100.0 * found).round()), Some(85.0));
    }
}
