//! `--plot`: the numbers of a run as pictures.

use std::path::Path;

use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::report::RuleRun;
use crate::command::{Failure, Result};

const WIDTH: u32 = 860;
const HEIGHT: u32 = 520;
/// Okabe and Ito's: told apart by the colour-blind too.
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(213, 94, 0),
    RGBColor(120, 120, 60),
    RGBColor(80, 80, 80),
];
const FONT: &str = "sans-serif";

type Outcome = std::result::Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Chart<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<RangedCoordf64, RangedCoordf64>>;

/// A point of a scatter plot with the name of its rule.
struct Point {
    at: (f64, f64),
    label: String,
}

/// Makes the folder.
pub fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|error| Failure::Error(format!("cannot make {}: {error}", folder.display())))
}

/// Writes the pictures that the numbers allow into a folder, and returns their names.
pub fn write(folder: &Path, runs: &[RuleRun]) -> Result<Vec<&'static str>> {
    let mut written = Vec::new();
    let mut one = |name: &'static str, height: u32, draw: &dyn Fn(&Area<'_>) -> Outcome| -> Result<()> {
        let path = folder.join(name);
        let failed =
            |error: &dyn std::fmt::Display| Failure::Error(format!("cannot write {}: {error}", path.display()));
        let area = SVGBackend::new(&path, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(|error| failed(&error))?;
        draw(&area).map_err(|error| failed(&error))?;
        area.present().map_err(|error| failed(&error))?;
        written.push(name);
        Ok(())
    };
    one("time-retention.svg", HEIGHT, &|area| time_against_retention(area, runs))?;
    if runs.iter().any(|run| run.accuracy.is_some()) {
        one("accuracy-time.svg", HEIGHT, &|area| accuracy_against_time(area, runs))?;
    }
    let with_stages: Vec<&RuleRun> = runs.iter().filter(|run| !run.stages_ms.0.is_empty()).collect();
    if !with_stages.is_empty() {
        let height = 130 + 26 * with_stages.len() as u32;
        one("stages.svg", height, &|area| stages(area, &with_stages))?;
    }
    Ok(written)
}

/// The settings, in their order: what the rules are compared on.
fn settings(runs: &[RuleRun]) -> Vec<(String, Vec<&RuleRun>)> {
    let mut settings: Vec<(String, Vec<&RuleRun>)> = Vec::new();
    for run in runs {
        let name = format!("{}, {} x {} tokens", run.backend, run.batch, run.tokens);
        match settings.last_mut() {
            Some((last, runs)) if *last == name => runs.push(run),
            _ => settings.push((name, vec![run])),
        }
    }
    settings
}

fn time_against_retention(area: &Area<'_>, runs: &[RuleRun]) -> Outcome {
    let highest = runs.iter().map(|run| run.of_dense.time.max(run.of_dense.flops)).fold(1.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .caption("Time of dense against tokens kept", (FONT, 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..1.08, 0.0..1.08 * highest)?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc("retention")
        .y_desc("time / dense time (hollow: FLOPs / dense FLOPs)")
        .draw()?;
    chart
        .draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], BLACK.mix(0.5)))?
        .label("ideal: time falls as tokens do")
        .legend(|(x, y)| PathElement::new([(x, y), (x + 16, y)], BLACK.mix(0.5)));
    for (place, (name, runs)) in settings(runs).into_iter().enumerate() {
        let points = |share: fn(&RuleRun) -> f64| {
            let point = |run: &&RuleRun| Point { at: (run.retention, share(run)), label: run.prune.clone() };
            runs.iter().map(point).collect::<Vec<_>>()
        };
        scatter(&mut chart, place, &name, &points(|run| run.of_dense.time))?;
        let colour = COLOURS[place % COLOURS.len()];
        let flops = points(|run| run.of_dense.flops);
        chart.draw_series(flops.iter().map(|point| Circle::new(point.at, 4, colour)))?;
    }
    legend(&mut chart)
}

fn accuracy_against_time(area: &Area<'_>, runs: &[RuleRun]) -> Outcome {
    let per_input = |run: &RuleRun| run.ms.median / run.batch as f64;
    let longest = runs.iter().map(per_input).fold(0.0, f64::max);
    let accuracies = || runs.iter().filter_map(|run| run.accuracy);
    let (low, high) = (accuracies().fold(1.0, f64::min), accuracies().fold(0.0, f64::max));
    let margin = (0.2 * (high - low)).max(0.01);
    let mut chart = ChartBuilder::on(area)
        .caption("Accuracy against time", (FONT, 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..1.15 * longest, low - margin..high + margin)?;
    chart.configure_mesh().light_line_style(WHITE).x_desc("ms per input (median)").y_desc("accuracy").draw()?;
    for (place, (name, runs)) in settings(runs).into_iter().enumerate() {
        let point = |run: &&RuleRun| Some(Point { at: (per_input(run), run.accuracy?), label: run.prune.clone() });
        scatter(&mut chart, place, &name, &runs.iter().filter_map(point).collect::<Vec<_>>())?;
    }
    legend(&mut chart)
}

/// Points of one colour, with their names beside them.
fn scatter(chart: &mut Chart<'_, '_>, place: usize, name: &str, points: &[Point]) -> Outcome {
    let colour = COLOURS[place % COLOURS.len()];
    chart
        .draw_series(points.iter().map(|point| Circle::new(point.at, 5, colour.filled())))?
        .label(name)
        .legend(move |(x, y)| Circle::new((x + 8, y), 5, colour.filled()));
    let label = |point: &Point| {
        EmptyElement::at(point.at) + Text::new(point.label.clone(), (8, -6), (FONT, 12).into_font().color(&colour))
    };
    chart.draw_series(points.iter().map(label))?;
    Ok(())
}

fn legend<'a, 'b: 'a>(chart: &mut Chart<'a, 'b>) -> Outcome {
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.3))
        .label_font((FONT, 12))
        .draw()?;
    Ok(())
}

/// A bar for every run, from the first stage to the last.
fn stages(area: &Area<'_>, runs: &[&RuleRun]) -> Outcome {
    let total = |run: &RuleRun| run.stages_ms.0.iter().map(|(_, ms)| ms).sum::<f64>();
    let longest = runs.iter().map(|run| total(run)).fold(0.0, f64::max);
    let name = |run: &RuleRun| format!("{} {} x {} {}", run.backend, run.batch, run.tokens, run.prune);
    let mut names: Vec<&str> = Vec::new();
    for (stage, _) in runs.iter().flat_map(|run| &run.stages_ms.0) {
        if !names.contains(&stage.as_str()) {
            names.push(stage);
        }
    }
    let layer = |stage: &str| stage.strip_prefix("layer_").and_then(|layer| layer.parse::<usize>().ok());
    let others: Vec<&str> = names.iter().copied().filter(|stage| layer(stage).is_none()).collect();
    let colour = |stage: &str| match layer(stage) {
        // Layers share a colour and differ in shade.
        Some(layer) => COLOURS[0].mix(if layer % 2 == 0 { 0.9 } else { 0.6 }),
        None => {
            let place = others.iter().position(|other| *other == stage).unwrap_or(0);
            COLOURS[1 + place % (COLOURS.len() - 1)].mix(0.9)
        }
    };
    let mut chart = ChartBuilder::on(area)
        .caption("Where the time goes", (FONT, 20))
        .margin(14)
        .x_label_area_size(44)
        .y_label_area_size(10)
        .build_cartesian_2d(0.0..1.25 * longest, 0.0..runs.len() as f64)?;
    chart.configure_mesh().disable_y_mesh().disable_y_axis().light_line_style(WHITE).x_desc("ms of a batch").draw()?;
    for (row, run) in runs.iter().rev().enumerate() {
        let mut start = 0.0;
        for (stage, ms) in &run.stages_ms.0 {
            let corners = [(start, row as f64 + 0.05), (start + ms, row as f64 + 0.55)];
            chart.draw_series([Rectangle::new(corners, colour(stage).filled())])?;
            start += ms;
        }
        let style = (FONT, 12).into_font().color(&BLACK);
        chart.draw_series([EmptyElement::at((0.0, row as f64 + 0.95)) + Text::new(name(run), (2, 0), style)])?;
    }
    for stage in names.iter().filter(|stage| layer(stage).is_none_or(|layer| layer == 0)) {
        let colour = colour(stage);
        let label = if *stage == "layer_0" { "layers" } else { stage };
        chart
            .draw_series(std::iter::empty::<Rectangle<(f64, f64)>>())?
            .label(label)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.85))
        .label_font((FONT, 12))
        .draw()?;
    Ok(())
}
