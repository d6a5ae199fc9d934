//! The figure of a task: its metric against retention.

use plotters::element::DashedPathElement;
use plotters::prelude::*;

use super::args::Curve;
use super::paper::PaperTask;
use super::series::Series;
use crate::error::{Error, Result};

const SIZE: (u32, u32) = (1000, 520);
/// Width of what explains the curves.
const LEGEND: u32 = 190;
const FONT: &str = "sans-serif";
/// Okabe and Ito's: told apart by the colour-blind too.
const BLUE: RGBColor = RGBColor(0, 114, 178);
const SKY: RGBColor = RGBColor(86, 180, 233);
const GREEN: RGBColor = RGBColor(0, 158, 115);
const DARK_GREEN: RGBColor = RGBColor(0, 90, 60);
const ORANGE: RGBColor = RGBColor(230, 159, 0);
const RED: RGBColor = RGBColor(213, 94, 0);
const GREY: RGBColor = RGBColor(80, 80, 80);

/// Rules have colours; what was trained without labels is darker than the same rule without training.
fn colour(rule: &str, is_compressed: bool) -> RGBColor {
    match (rule, is_compressed) {
        ("topk", true) => BLUE,
        ("topk", false) => SKY,
        ("concrete", true) => DARK_GREEN,
        ("concrete", false) => GREEN,
        ("forward", _) => ORANGE,
        ("ltp", _) => RED,
        _ => GREY,
    }
}

fn colour_of(curve: Curve) -> RGBColor {
    match curve {
        Curve::Topk => SKY,
        Curve::Concrete => GREEN,
        Curve::Forward => ORANGE,
        Curve::Ltp => RED,
        Curve::Oracle => GREY,
    }
}

/// Our curves with their points, the paper's dashed, and both dense models as lines. An SVG.
pub fn picture(title: String, all: &[Series<'_>], dense: Option<f64>, paper: Option<&PaperTask>) -> Result<String> {
    let mut svg = String::new();
    draw(&mut svg, &title, all, dense, paper).map_err(|error| Error::Failed(format!("{title}: {error}")))?;
    Ok(svg)
}

/// A line of the legend.
enum Mark {
    Line(ShapeStyle),
    Dashes(ShapeStyle),
    Point(RGBColor),
}

fn draw(
    svg: &mut String,
    title: &str,
    all: &[Series<'_>],
    dense: Option<f64>,
    paper: Option<&PaperTask>,
) -> std::result::Result<(), Box<dyn std::error::Error>> {
    let theirs = paper.into_iter().flat_map(|paper| paper.lines.iter().flat_map(|(_, line)| line.points()));
    let values = || {
        let ours = all.iter().flat_map(|one| one.line.points());
        ours.chain(theirs.clone()).map(|point| point.1).chain(dense).chain(paper.map(|paper| paper.dense))
    };
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    let margin = (0.05 * (high - low)).max(0.01);
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, right) = area.split_horizontally(SIZE.0 - LEGEND);
    let mut chart = ChartBuilder::on(&left)
        .caption(title, (FONT, 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..1.0, low - margin..high + margin)?;
    chart.configure_mesh().light_line_style(WHITE).x_desc("retention").y_desc("metric").draw()?;
    let mut legend: Vec<(String, Mark)> = Vec::new();
    for (value, name, style) in [
        (dense, "dense", BLACK.mix(0.6).stroke_width(1)),
        (paper.map(|paper| paper.dense), "the paper's dense", BLACK.mix(0.25).stroke_width(1)),
    ] {
        let Some(value) = value else { continue };
        chart.draw_series(LineSeries::new([(0.0, value), (1.0, value)], style))?;
        legend.push((name.to_owned(), Mark::Line(style)));
    }
    for (curve, line) in paper.into_iter().flat_map(|paper| &paper.lines) {
        let style = colour_of(*curve).mix(0.55).stroke_width(1);
        chart.draw_series(DashedLineSeries::new(line.points().to_vec(), 5, 4, style))?;
        legend.push((format!("the paper's {}", curve.name()), Mark::Dashes(style)));
    }
    for one in all {
        let colour = colour(one.kind.rule, one.kind.model == "compressed");
        let points = one.line.points();
        chart.draw_series(LineSeries::new(points.to_vec(), colour.stroke_width(2)))?;
        chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
        legend.push((one.kind.name.to_owned(), Mark::Point(colour)));
    }
    for ((name, mark), y) in legend.into_iter().zip((60..).step_by(22)) {
        let line = [(0, y), (22, y)];
        match mark {
            Mark::Line(style) => right.draw(&PathElement::new(line, style))?,
            Mark::Dashes(style) => right.draw(&DashedPathElement::new(line, 5, 4, style))?,
            Mark::Point(colour) => {
                right.draw(&PathElement::new(line, colour.stroke_width(2)))?;
                right.draw(&Circle::new((11, y), 3, colour.filled()))?;
            }
        }
        right.draw(&Text::new(name, (30, y - 6), (FONT, 13).into_font()))?;
    }
    drop((chart, left, right));
    area.present()?;
    drop(area);
    Ok(())
}
