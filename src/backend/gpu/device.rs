//! Choosing an adapter, opening a device, and keeping what goes wrong on it.

use std::sync::{Arc, Mutex};

use crate::error::{Error, Result};

/// How to choose an adapter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GpuOptions {
    /// Take the first adapter whose name contains this (case ignored).
    pub adapter: Option<String>,
    /// Take a software adapter if there is no hardware.
    pub allow_software: bool,
}

/// What is known of an adapter before a device is opened on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdapterDescription {
    /// The adapter's name, as in `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// The API, as in `vulkan`.
    pub backend: String,
    /// As in `DiscreteGpu`.
    pub device_type: String,
    /// The driver and its version.
    pub driver: String,
    /// Whether it computes on the CPU.
    pub software: bool,
    /// Largest buffer that a kernel can bind.
    pub max_binding_bytes: u64,
    /// Memory that a workgroup can share.
    pub max_workgroup_bytes: u32,
    /// Optional features that it has, of `f16`, `subgroups` and `timestamps`. Kernels need none; stages are timed with the last.
    pub features: Vec<String>,
}

impl AdapterDescription {
    fn new(adapter: &wgpu::Adapter) -> Self {
        let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
        let optional = [
            ("f16", wgpu::Features::SHADER_F16),
            ("subgroups", wgpu::Features::SUBGROUP),
            ("timestamps", wgpu::Features::TIMESTAMP_QUERY),
        ];
        let name = if info.name.is_empty() { format!("{:?} adapter", info.backend) } else { info.name.clone() };
        Self {
            name,
            backend: info.backend.to_string(),
            device_type: format!("{:?}", info.device_type),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            software: is_software(&info),
            max_binding_bytes: limits.max_storage_buffer_binding_size,
            max_workgroup_bytes: limits.max_compute_workgroup_storage_size,
            features: optional
                .iter()
                .filter(|(_, flag)| features.contains(*flag))
                .map(|(name, _)| (*name).to_owned())
                .collect(),
        }
    }
}

/// Browsers do not tell the type of an adapter; the names of their software ones are known.
fn is_software(info: &wgpu::AdapterInfo) -> bool {
    let name = format!("{} {}", info.name, info.driver).to_lowercase();
    info.device_type == wgpu::DeviceType::Cpu
        || ["swiftshader", "llvmpipe", "lavapipe", "basic render driver"].iter().any(|known| name.contains(known))
}

fn instance() -> wgpu::Instance {
    wgpu::Instance::new(wgpu::InstanceDescriptor {
        backends: wgpu::Backends::PRIMARY,
        // No validation layers, which print on their own; wgpu validates what the kernels do.
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    })
}

async fn found_adapters(instance: &wgpu::Instance) -> Vec<(wgpu::Adapter, AdapterDescription)> {
    let found = instance.enumerate_adapters(wgpu::Backends::PRIMARY).await;
    let mut found: Vec<_> = found
        .into_iter()
        .map(|adapter| {
            let description = AdapterDescription::new(&adapter);
            (adapter, description)
        })
        .collect();
    // Hardware first, discrete before integrated; otherwise in the system's order.
    found.sort_by_key(|(adapter, description)| {
        (description.software, adapter.get_info().device_type != wgpu::DeviceType::DiscreteGpu)
    });
    found
}

/// All adapters of this machine, the preferred one first.
pub async fn adapters() -> Vec<AdapterDescription> {
    found_adapters(&instance()).await.into_iter().map(|(_, description)| description).collect()
}

/// A device, its queue, and the errors that it reported.
pub struct OpenDevice {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub adapter: AdapterDescription,
    /// Whether WGSL has `packed_4x8_integer_dot_product`: Firefox's has not (2026).
    pub has_dot4: bool,
    pub errors: Arc<ErrorSlot>,
}

impl OpenDevice {
    /// # Errors
    /// [`Error::NoAdapter`] with all adapters found, [`Error::Gpu`] when none of them gives a device.
    pub async fn new(options: &GpuOptions) -> Result<Self> {
        let instance = instance();
        let has_dot4 =
            instance.wgsl_language_features().contains(wgpu::WgslLanguageFeatures::Packed4x8IntegerDotProduct);
        let found = found_adapters(&instance).await;
        let matches = |description: &AdapterDescription| match &options.adapter {
            Some(name) => description.name.to_lowercase().contains(&name.to_lowercase()),
            None => options.allow_software || !description.software,
        };
        let descriptions: Vec<AdapterDescription> = found.iter().map(|(_, description)| description.clone()).collect();
        let Some((adapter, description)) = found.into_iter().find(|(_, description)| matches(description)) else {
            let wanted = match &options.adapter {
                Some(name) => format!("GPU with `{name}` in its name"),
                None if options.allow_software => "GPU".to_owned(),
                None => "hardware GPU".to_owned(),
            };
            return Err(Error::NoAdapter { wanted, found: list(&descriptions) });
        };
        let offered = adapter.limits();
        let required_limits = wgpu::Limits {
            max_storage_buffer_binding_size: offered.max_storage_buffer_binding_size,
            max_buffer_size: offered.max_buffer_size,
            max_compute_workgroup_storage_size: offered.max_compute_workgroup_storage_size,
            ..wgpu::Limits::default()
        };
        // Having it costs nothing; see `GpuBackend::set_stage_timing`.
        let required_features = adapter.features() & wgpu::Features::TIMESTAMP_QUERY;
        let descriptor =
            wgpu::DeviceDescriptor { label: Some("sttabt"), required_features, required_limits, ..Default::default() };
        let (device, queue) = adapter
            .request_device(&descriptor)
            .await
            .map_err(|error| Error::Gpu { message: format!("{} gives no device: {error}", description.name) })?;
        let errors = Arc::new(ErrorSlot::default());
        let uncaptured = Arc::clone(&errors);
        device.on_uncaptured_error(Arc::new(move |error| uncaptured.set(from_wgpu(error, None))));
        let lost = Arc::clone(&errors);
        device.set_device_lost_callback(move |reason, message| {
            lost.set_lost(format!("{reason:?} {message}").trim().to_owned());
        });
        Ok(Self { device, queue, adapter: description, has_dot4, errors })
    }
}

fn list(descriptions: &[AdapterDescription]) -> String {
    if descriptions.is_empty() {
        return "none".to_owned();
    }
    let one = |description: &AdapterDescription| {
        let kind = if description.software { "software" } else { "hardware" };
        format!("{} ({}, {kind})", description.name, description.backend)
    };
    descriptions.iter().map(one).collect::<Vec<_>>().join("; ")
}

/// The crate's error for one of wgpu's; `what` was being made.
pub fn from_wgpu(error: wgpu::Error, what: Option<&str>) -> Error {
    let about = |text: String| match what {
        Some(what) => format!("{what}: {text}"),
        None => text,
    };
    match error {
        wgpu::Error::OutOfMemory { .. } => {
            Error::OutOfMemory { what: about("the device refused the allocation".to_owned()) }
        }
        wgpu::Error::Validation { description, .. } | wgpu::Error::Internal { description, .. } => {
            Error::Gpu { message: about(description) }
        }
    }
}

/// The first error that the device reported, until it is taken. A lost device stays lost.
#[derive(Debug, Default)]
pub struct ErrorSlot(Mutex<(Option<Error>, Option<String>)>);

impl ErrorSlot {
    fn with<T>(&self, work: impl FnOnce(&mut (Option<Error>, Option<String>)) -> T) -> T {
        // A panic of another thread cannot leave the pair half-written.
        work(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    pub fn set(&self, error: Error) {
        self.with(|(first, _)| {
            first.get_or_insert(error);
        });
    }

    pub fn set_lost(&self, reason: String) {
        self.with(|(_, lost)| {
            lost.get_or_insert(reason);
        });
    }

    /// A lost device explains every other error.
    pub fn check(&self) -> Result<()> {
        self.with(|(first, lost)| match (lost, first.take()) {
            (Some(reason), _) => Err(Error::DeviceLost { reason: reason.clone() }),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(()),
        })
    }
}
