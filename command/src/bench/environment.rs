//! What the numbers were measured on.

use serde::Serialize;
use sttabt::Engine;

/// The machine, its drivers and the versions of what computes.
#[derive(Debug, Serialize)]
pub struct Environment {
    /// Adapters of the backends that were asked for, in their order; the CPU path's is `CPU`.
    pub adapter: Vec<String>,
    /// Their APIs and drivers.
    pub driver: Vec<String>,
    pub cpu: String,
    /// Logical ones that this process may use.
    pub cores: usize,
    /// That the CPU path uses.
    pub threads: usize,
    pub os: &'static str,
    pub arch: &'static str,
    pub versions: Versions,
}

#[derive(Debug, Serialize)]
pub struct Versions {
    pub sttabt: &'static str,
    pub wgpu: String,
    pub fearless_simd: String,
}

/// One of the devices that compute.
pub struct Device {
    pub adapter: String,
    pub driver: String,
}

impl Device {
    pub fn of(engine: &mut Engine) -> Self {
        Self { adapter: engine.backend().adapter.clone(), driver: driver(engine) }
    }
}

impl Environment {
    pub fn new(devices: Vec<Device>) -> Self {
        let (adapter, driver) = devices.into_iter().map(|device| (device.adapter, device.driver)).unzip();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = std::env::var("RAYON_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
        Self {
            adapter,
            driver,
            cpu: cpu_name(),
            cores,
            threads: threads.filter(|&threads| threads > 0).unwrap_or(cores),
            os: std::env::consts::OS,
            arch: std::env::consts::ARCH,
            versions: Versions {
                sttabt: env!("CARGO_PKG_VERSION"),
                wgpu: locked("wgpu"),
                fearless_simd: locked("fearless_simd"),
            },
        }
    }
}

#[cfg(feature = "gpu")]
fn driver(engine: &mut Engine) -> String {
    engine.gpu().map_or_else(String::new, |gpu| {
        let adapter = gpu.adapter();
        format!("{}, {}; {}", adapter.backend, adapter.driver, gpu.variants())
    })
}

#[cfg(not(feature = "gpu"))]
fn driver(_engine: &mut Engine) -> String {
    String::new()
}

/// As Linux tells it; elsewhere the architecture says what is known.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim()).to_owned()
}

/// The version of a crate that this binary was built with.
fn locked(name: &str) -> String {
    let name = format!("name = \"{name}\"");
    let mut lines = include_str!("../../../Cargo.lock").lines().skip_while(|line| *line != name).skip(1);
    let version = lines.next().and_then(|line| line.strip_prefix("version = \""));
    version.map_or("", |version| version.trim_end_matches('"')).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        assert!(locked("wgpu").split('.').count() == 3, "{}", locked("wgpu"));
        assert_eq!(locked("no such crate"), "");
    }
}
