//! Shaders as data, and the pipelines and bind groups made from them.

use std::collections::HashMap;

use super::buffers::GpuBuffer;

/// How a kernel uses a storage buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`
    Read,
    /// `var<storage, read_write>`
    ReadWrite,
}

/// A shader with what its Rust side knows of it. Binding 0 is the uniform `Params`; `bindings` follow from 1.
#[derive(Debug)]
pub struct Shader {
    /// The file's stem.
    pub name: &'static str,
    /// The whole WGSL, shared helpers included.
    pub source: &'static str,
    /// The storage buffers.
    pub bindings: &'static [Access],
    /// Size of `Params`.
    pub params_bytes: usize,
    /// Name and offset of every field of `Params`.
    pub params_fields: &'static [(&'static str, usize)],
}

/// Defines `Params` once, as bytes for the device and as a list of names and offsets for the tests.
macro_rules! params {
    (struct Params { $($field:ident: $type:ty,)* }) => {
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        struct Params {
            $($field: $type,)*
        }

        impl Params {
            const FIELDS: &'static [(&'static str, usize)] =
                &[$((stringify!($field), std::mem::offset_of!(Params, $field)),)*];
        }
    };
}
pub(super) use params;

/// Defines `SHADER` from the shared helper files and the kernel's own.
macro_rules! shader {
    ($name:literal, $helpers:tt, $accesses:tt) => {
        $crate::backend::gpu::kernel::shader!(SHADER = $name, $helpers, $accesses);
    };
    ($shader:ident = $name:literal, [$($helper:literal),*], [$($access:ident),*]) => {
        pub const $shader: $crate::backend::gpu::kernel::Shader = $crate::backend::gpu::kernel::Shader {
            name: $name,
            source: concat!(
                include_str!("../../../shaders/common.wgsl"),
                $(include_str!(concat!("../../../shaders/", $helper, ".wgsl")),)*
                include_str!(concat!("../../../shaders/", $name, ".wgsl")),
            ),
            bindings: &[$($crate::backend::gpu::kernel::Access::$access),*],
            params_bytes: std::mem::size_of::<Params>(),
            params_fields: Params::FIELDS,
        };
    };
}
pub(super) use shader;

/// What completes every kernel that counts its rows: an empty function.
pub const COUNT_ROWS: &str = include_str!("../../../shaders/count_off.wgsl");
/// The same with a counter, for a backend that counts.
#[cfg(feature = "count-rows")]
const COUNT_ROWS_ON: &str = include_str!("../../../shaders/count_on.wgsl");

/// [`COUNT_ROWS`], or what counts where there is a counter.
fn count_rows(counter: Option<&wgpu::BindGroupLayout>) -> &'static str {
    #[cfg(feature = "count-rows")]
    if counter.is_some() {
        return COUNT_ROWS_ON;
    }
    let _ = counter;
    COUNT_ROWS
}

/// Values of `override` declarations.
pub type Constants = [(&'static str, f64)];

/// What tells one pipeline from another: the shader, and its constants as bits.
type PipelineKey = (&'static str, Vec<(&'static str, u64)>);

struct KernelLayout {
    module: wgpu::ShaderModule,
    bind_group_layout: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
}

/// Pipelines and bind groups, made at first use.
#[derive(Default)]
pub struct Kernels {
    layouts: HashMap<&'static str, KernelLayout>,
    pipelines: HashMap<PipelineKey, wgpu::ComputePipeline>,
    bind_groups: HashMap<(&'static str, Vec<u64>), wgpu::BindGroup>,
}

impl Kernels {
    /// The pipeline of a shader with these constants, and whether it is new.
    pub fn pipeline(
        &mut self,
        device: &wgpu::Device,
        counter: Option<&wgpu::BindGroupLayout>,
        shader: &'static Shader,
        constants: &Constants,
    ) -> (wgpu::ComputePipeline, bool) {
        let key = (shader.name, constants.iter().map(|(name, value)| (*name, value.to_bits())).collect());
        if let Some(pipeline) = self.pipelines.get(&key) {
            return (pipeline.clone(), false);
        }
        let layout = self.layout(device, counter, shader);
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&layout.pipeline_layout),
            module: &layout.module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        self.pipelines.insert(key, pipeline.clone());
        (pipeline, true)
    }

    /// The bind group of a shader over these buffers, and whether it is new.
    pub fn bind_group(
        &mut self,
        device: &wgpu::Device,
        counter: Option<&wgpu::BindGroupLayout>,
        shader: &'static Shader,
        params: &wgpu::Buffer,
        buffers: &[&GpuBuffer],
    ) -> (wgpu::BindGroup, bool) {
        let key = (shader.name, buffers.iter().map(|buffer| buffer.id).collect());
        if let Some(bind_group) = self.bind_groups.get(&key) {
            return (bind_group.clone(), false);
        }
        let params = wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: params,
            offset: 0,
            size: std::num::NonZeroU64::new(shader.params_bytes as u64),
        });
        let storage = buffers.iter().map(|buffer| buffer.buffer.as_entire_binding());
        let entries: Vec<wgpu::BindGroupEntry<'_>> = std::iter::once(params)
            .chain(storage)
            .enumerate()
            .map(|(binding, resource)| wgpu::BindGroupEntry { binding: binding as u32, resource })
            .collect();
        let layout = self.layout(device, counter, shader);
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(shader.name),
            layout: &layout.bind_group_layout,
            entries: &entries,
        });
        self.bind_groups.insert(key, bind_group.clone());
        (bind_group, true)
    }

    /// Forgets all bind groups, which keep their buffers alive.
    pub fn forget_bind_groups(&mut self) {
        self.bind_groups.clear();
    }

    fn layout(
        &mut self,
        device: &wgpu::Device,
        counter: Option<&wgpu::BindGroupLayout>,
        shader: &'static Shader,
    ) -> &KernelLayout {
        self.layouts.entry(shader.name).or_insert_with(|| {
            let source = format!("{}{}", shader.source, count_rows(counter));
            let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
                label: Some(shader.name),
                source: wgpu::ShaderSource::Wgsl(source.into()),
            });
            let buffer = |binding: usize, ty, has_dynamic_offset, min_bytes: usize| wgpu::BindGroupLayoutEntry {
                binding: binding as u32,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty,
                    has_dynamic_offset,
                    min_binding_size: std::num::NonZeroU64::new(min_bytes as u64),
                },
                count: None,
            };
            let params = buffer(0, wgpu::BufferBindingType::Uniform, true, shader.params_bytes);
            let storage = shader.bindings.iter().enumerate().map(|(place, access)| {
                buffer(place + 1, wgpu::BufferBindingType::Storage { read_only: *access == Access::Read }, false, 0)
            });
            let entries: Vec<_> = std::iter::once(params).chain(storage).collect();
            let bind_group_layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(shader.name),
                entries: &entries,
            });
            let mut groups = vec![Some(&bind_group_layout)];
            groups.extend(counter.map(Some));
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(shader.name),
                bind_group_layouts: &groups,
                immediate_size: 0,
            });
            KernelLayout { module, bind_group_layout, pipeline_layout }
        })
    }
}
