//! The curves of a task: which points belong together, and which of the paper's stands beside them.

use sttabt::Prune;

use super::args::Curve;
use super::paper::{Line, PaperTask};
use super::points::Point;
use crate::finish::RATIOS;

/// A curve of the figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kind {
    /// In tables and pictures.
    pub name: &'static str,
    /// The rule.
    pub rule: &'static str,
    /// What the folder of its models begins with.
    pub model: &'static str,
    /// The paper's curve of the same rule on a model that was trained the same way.
    pub paper: Option<Curve>,
    /// Whether it costs less than a dense pass and may win.
    pub competes: bool,
}

/// In the order of the tables.
pub const KINDS: [Kind; 7] = [
    Kind { name: "topk, compressed", rule: "topk", model: "compressed", paper: None, competes: true },
    Kind { name: "topk", rule: "topk", model: "distilled", paper: Some(Curve::Topk), competes: true },
    Kind { name: "oracle", rule: "oracle", model: "finetuned", paper: Some(Curve::Oracle), competes: false },
    Kind { name: "forward", rule: "forward", model: "finetuned", paper: Some(Curve::Forward), competes: true },
    Kind { name: "concrete", rule: "concrete", model: "concrete-", paper: Some(Curve::Concrete), competes: true },
    Kind { name: "concrete, compressed", rule: "concrete", model: "compressed", paper: None, competes: true },
    Kind { name: "ltp", rule: "ltp", model: "ltp-", paper: Some(Curve::Ltp), competes: true },
];

/// A curve with its points.
pub struct Series<'a> {
    /// Which one.
    pub kind: Kind,
    /// By retention.
    pub points: Vec<&'a Point>,
    /// Their metrics.
    pub line: Line,
}

/// Those that have points.
pub fn all(points: &[Point]) -> Vec<Series<'_>> {
    let series = |kind: Kind| {
        let is_of = |point: &&Point| point.rule == kind.rule && point.model.starts_with(kind.model);
        let mut points: Vec<&Point> = points.iter().filter(is_of).collect();
        points.sort_by(|one, other| one.retention.total_cmp(&other.retention));
        let line = Line::new(points.iter().map(|point| (point.retention, point.value)).collect());
        Series { kind, points, line }
    };
    KINDS.into_iter().map(series).filter(|series| !series.points.is_empty()).collect()
}

/// A model's metric without pruning.
pub fn dense(points: &[Point], model: &str) -> Option<f64> {
    let is_dense = |point: &&Point| point.rule == Prune::Dense.rule().name && point.model == model;
    points.iter().find(is_dense).map(|point| point.value)
}

/// What the curves have at one retention.
pub struct Compared {
    /// Which one.
    pub retention: f64,
    /// Of each curve, and of the paper's beside it.
    pub values: Vec<[Option<f64>; 2]>,
    /// Places of the curves that compete, the best first.
    pub order: Vec<usize>,
    /// The best of the paper's that compete.
    pub best_of_paper: Option<(Curve, f64)>,
}

impl Compared {
    /// The best of ours.
    pub fn best(&self) -> Option<f64> {
        self.values[*self.order.first()?][0]
    }
}

/// All retentions that some curve passes.
pub fn compare(series: &[Series<'_>], paper: Option<&PaperTask>) -> Vec<Compared> {
    let compared = |retention: f64| {
        let theirs = |kind: Kind| paper?.line(kind.paper?)?.at(retention);
        let values: Vec<[Option<f64>; 2]> =
            series.iter().map(|one| [one.line.at(retention), theirs(one.kind)]).collect();
        let mut order: Vec<(usize, f64)> = (0..series.len())
            .filter(|&at| series[at].kind.competes)
            .filter_map(|at| Some((at, values[at][0]?)))
            .collect();
        order.sort_by(|one, other| other.1.total_cmp(&one.1));
        let lines = paper.into_iter().flat_map(|paper| &paper.lines).filter(|(curve, _)| *curve != Curve::Oracle);
        let best_of_paper = lines.filter_map(|(curve, line)| Some((*curve, line.at(retention)?)));
        let best_of_paper = best_of_paper.max_by(|one, other| one.1.total_cmp(&other.1));
        Compared { retention, values, order: order.into_iter().map(|(at, _)| at).collect(), best_of_paper }
    };
    let passes = |compared: &Compared| compared.values.iter().any(|[ours, _]| ours.is_some());
    RATIOS.into_iter().map(compared).filter(passes).collect()
}
