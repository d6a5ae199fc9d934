//! `sttabt-bench kernels`: every kernel alone, against what this device can do at best (the roofline).

mod time;
mod work;

use std::io::{self, Write};

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use sttabt::backend::Backend;
use sttabt::backend::cpu::CpuBackend;

use super::args::KernelsArgs;
use super::environment::{Device, Environment};
use super::report::write_json;
use super::stop::{EXIT_CODE, Stop};
use super::times::Times;
use crate::command::{BackendArg, Failure, Result, write_columns};
use work::{CASES, COPIES, PRODUCTS, Work};

#[derive(Serialize)]
struct Report {
    environment: Environment,
    ceiling: Ceiling,
    kernels: Vec<KernelRun>,
    /// Whether Ctrl-C ended it before its time.
    interrupted: bool,
}

/// The best that was measured on this device.
#[derive(Debug, Clone, Copy, Default, Serialize)]
struct Ceiling {
    /// Of plain matrix products.
    gflops_per_s: f64,
    /// Of copies, bytes read and written.
    gb_per_s: f64,
}

#[derive(Serialize)]
struct KernelRun {
    backend: &'static str,
    kernel: &'static str,
    shape: String,
    ms: Times,
    flops: f64,
    bytes: f64,
    /// In the shortest time, as the ceilings.
    gflops_per_s: f64,
    gb_per_s: f64,
    /// The time that the ceilings allow, as a share of the shortest time.
    of_ceiling: f64,
    /// Which ceiling is nearer.
    bound: &'static str,
}

pub fn run(args: &KernelsArgs) -> Result<()> {
    let stop = Stop::listen()?;
    if let (BackendArg::Cpu, Some(_)) = (args.device.backend, &args.device.adapter) {
        return Err(Failure::Usage("--adapter names a GPU adapter, and --backend cpu uses none".to_owned()));
    }
    #[cfg(feature = "gpu")]
    if !matches!(args.device.backend, BackendArg::Cpu) {
        use sttabt::backend::gpu::{GpuBackend, GpuOptions};

        let is_auto = matches!(args.device.backend, BackendArg::Auto);
        let adapter = args.device.adapter.clone();
        let allow_software = !is_auto || adapter.is_some();
        match pollster::block_on(GpuBackend::new(&GpuOptions { adapter, allow_software })) {
            Ok(mut backend) => {
                let adapter = backend.adapter().clone();
                let driver = format!("{}, {}; {}", adapter.backend, adapter.driver, backend.variants());
                return measure(&mut backend, "gpu", Device { adapter: adapter.name, driver }, args, &stop);
            }
            Err(error @ sttabt::Error::NoAdapter { .. }) if is_auto && args.device.adapter.is_none() => {
                crate::command::note(&format!("running on the CPU: {error}"));
            }
            Err(error) => return Err(error.into()),
        }
    }
    #[cfg(not(feature = "gpu"))]
    if matches!(args.device.backend, BackendArg::Gpu) {
        return Err(Failure::Error("this is a build without the feature `gpu`".to_owned()));
    }
    let device = Device { adapter: "CPU".to_owned(), driver: String::new() };
    measure(&mut CpuBackend::new(), "cpu", device, args, &stop)
}

fn measure<B: Backend>(
    backend: &mut B,
    name: &'static str,
    device: Device,
    args: &KernelsArgs,
    stop: &Stop,
) -> Result<()> {
    let title = if name == "cpu" { name.to_owned() } else { format!("{name} ({}, {})", device.adapter, device.driver) };
    let mut report = Report {
        environment: Environment::new(vec![device]),
        ceiling: Ceiling::default(),
        kernels: Vec::new(),
        interrupted: false,
    };
    let write = |report: &Report| args.json.as_ref().map_or(Ok(()), |path| write_json(path, report));
    write(&report)?;
    let progress = ProgressBar::new((2 * (PRODUCTS.len() + COPIES.len()) + CASES.len()) as u64);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
        progress.set_style(style);
    }
    let mut time = |work: &Work| -> Result<Option<Times>> {
        if stop.is_wanted() {
            return Ok(None);
        }
        progress.set_message(work.kernel());
        let times = pollster::block_on(work.time(backend))?;
        progress.inc(1);
        Ok(times)
    };
    let mut measured = Vec::new();
    // The ceilings before and after, in case the machine was busy with something else at one time.
    let ceilings = || PRODUCTS.iter().chain(&COPIES);
    for work in ceilings().chain(&CASES).chain(ceilings()) {
        measured.extend(time(work)?.map(|times| (work, times)));
    }
    report.ceiling = Ceiling::of(&measured);
    let cases = measured.iter().filter(|(work, _)| CASES.contains(work));
    report.kernels = cases.map(|(work, times)| KernelRun::new(name, work, *times, report.ceiling)).collect();
    progress.finish_and_clear();
    report.interrupted = stop.is_wanted();
    write(&report)?;
    print(&mut io::stdout().lock(), &title, &report)?;
    if report.interrupted {
        std::process::exit(EXIT_CODE);
    }
    Ok(())
}

impl Ceiling {
    fn of(measured: &[(&Work, Times)]) -> Self {
        let mut best = Self::default();
        for (work, times) in measured {
            match work {
                Work::Linear { .. } => best.gflops_per_s = best.gflops_per_s.max(work.flops() / times.min / 1e6),
                Work::GatherRows { .. } => best.gb_per_s = best.gb_per_s.max(work.bytes() / times.min / 1e6),
                _ => {}
            }
        }
        best
    }
}

impl KernelRun {
    fn new(backend: &'static str, work: &Work, ms: Times, ceiling: Ceiling) -> Self {
        let (flops, bytes) = (work.flops(), work.bytes());
        let arithmetic_ms = flops / ceiling.gflops_per_s / 1e6;
        let memory_ms = bytes / ceiling.gb_per_s / 1e6;
        Self {
            backend,
            kernel: work.kernel(),
            shape: work.shape(),
            ms,
            flops,
            bytes,
            gflops_per_s: flops / ms.min / 1e6,
            gb_per_s: bytes / ms.min / 1e6,
            of_ceiling: arithmetic_ms.max(memory_ms) / ms.min,
            bound: if arithmetic_ms > memory_ms { "arithmetic" } else { "memory" },
        }
    }
}

fn print(out: &mut impl Write, title: &str, report: &Report) -> Result<()> {
    writeln!(
        out,
        "kernels on {title}; at best {:.1} GFLOP/s (plain matrix product) and {:.1} GB/s (copy)",
        report.ceiling.gflops_per_s, report.ceiling.gb_per_s
    )?;
    let header = ["kernel", "shape", "min us", "median", "GFLOP/s", "GB/s", "of ceiling", "bound by"];
    let mut lines = vec![header.map(str::to_owned).to_vec()];
    for run in &report.kernels {
        lines.push(vec![
            run.kernel.to_owned(),
            run.shape.clone(),
            format!("{:.1}", 1e3 * run.ms.min),
            format!("{:.1}", 1e3 * run.ms.median),
            format!("{:.1}", run.gflops_per_s),
            format!("{:.1}", run.gb_per_s),
            format!("{:.0} %", 100.0 * run.of_ceiling),
            run.bound.to_owned(),
        ]);
    }
    write_columns(out, &lines)
}
