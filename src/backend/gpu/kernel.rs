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
    /// Name and value of every constant that the Rust side has too.
    pub constants: &'static [(&'static str, usize)],
}

/// Invocations of a workgroup where the shader numbers them all.
pub const INVOCATIONS: usize = 64;

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

/// Defines `SHADER` from the shared helper files and the kernel's own, with the constants that stand in both languages.
macro_rules! shader {
    ($name:literal, $helpers:tt, $accesses:tt $(, $constants:tt)?) => {
        $crate::backend::gpu::kernel::shader!(SHADER = $name, $helpers, $accesses $(, $constants)?);
    };
    ($shader:ident = $name:literal, [$($helper:literal),*], [$($access:ident),*] $(, [$($constant:ident),*])?) => {
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
            constants: &[$($((stringify!($constant), $constant)),*)?],
        };
    };
}
pub(super) use shader;

/// What completes every kernel that counts its rows: an empty function.
pub const COUNT_ROWS: &str = include_str!("../../../shaders/count_off.wgsl");
/// The same with a counter, for a backend that counts.
#[cfg(feature = "internals")]
const COUNT_ROWS_ON: &str = include_str!("../../../shaders/count_on.wgsl");

/// [`COUNT_ROWS`], or what counts where there is a counter.
fn count_rows(counter: Option<&wgpu::BindGroupLayout>) -> &'static str {
    #[cfg(feature = "internals")]
    if counter.is_some() {
        return COUNT_ROWS_ON;
    }
    let _ = counter;
    COUNT_ROWS
}

/// What completes every kernel that multiplies int8: a function for four products, by the language feature or without.
pub const DOT4: [&str; 2] =
    [include_str!("../../../shaders/dot4_native.wgsl"), include_str!("../../../shaders/dot4_unpacked.wgsl")];

/// Values of `override` declarations.
pub type Constants = [(&'static str, f64)];

/// Storage buffers of a kernel at most: what WebGPU guarantees.
const MAX_BUFFERS: usize = 8;

/// One shader on a device.
struct Kernel {
    module: wgpu::ShaderModule,
    bind_group_layout: wgpu::BindGroupLayout,
    pipeline_layout: wgpu::PipelineLayout,
    /// By their constants, of which a shader sees few.
    pipelines: Vec<(Vec<(&'static str, f64)>, wgpu::ComputePipeline)>,
    /// By the ids of their buffers.
    bind_groups: HashMap<[u64; MAX_BUFFERS], wgpu::BindGroup>,
}

/// Pipelines and bind groups, made at first use. Finding one again allocates nothing.
pub struct Kernels {
    known: HashMap<&'static str, Kernel>,
    dot4: &'static str,
}

impl Kernels {
    /// `has_dot4`: whether WGSL has `packed_4x8_integer_dot_product` here.
    pub fn new(has_dot4: bool) -> Self {
        let [native, unpacked] = DOT4;
        Self { known: HashMap::new(), dot4: if has_dot4 { native } else { unpacked } }
    }

    /// Forgets all pipelines.
    #[cfg(feature = "internals")]
    pub fn clear(&mut self) {
        self.known.clear();
    }

    /// The pipeline of a shader with these constants, and whether it is new.
    pub fn pipeline(
        &mut self,
        device: &wgpu::Device,
        counter: Option<&wgpu::BindGroupLayout>,
        shader: &'static Shader,
        constants: &Constants,
    ) -> (wgpu::ComputePipeline, bool) {
        let kernel = self.kernel(device, counter, shader);
        if let Some((_, pipeline)) = kernel.pipelines.iter().find(|(known, _)| known == constants) {
            return (pipeline.clone(), false);
        }
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&kernel.pipeline_layout),
            module: &kernel.module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        });
        kernel.pipelines.push((constants.to_vec(), pipeline.clone()));
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
        let kernel = self.kernel(device, counter, shader);
        let mut ids = [0; MAX_BUFFERS];
        ids.iter_mut().zip(buffers).for_each(|(id, buffer)| *id = buffer.id);
        if let Some(bind_group) = kernel.bind_groups.get(&ids) {
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
        let bind_group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(shader.name),
            layout: &kernel.bind_group_layout,
            entries: &entries,
        });
        kernel.bind_groups.insert(ids, bind_group.clone());
        (bind_group, true)
    }

    /// Forgets all bind groups, which keep their buffers alive.
    pub fn forget_bind_groups(&mut self) {
        self.known.values_mut().for_each(|kernel| kernel.bind_groups.clear());
    }

    fn kernel(
        &mut self,
        device: &wgpu::Device,
        counter: Option<&wgpu::BindGroupLayout>,
        shader: &'static Shader,
    ) -> &mut Kernel {
        let dot4 = self.dot4;
        self.known.entry(shader.name).or_insert_with(|| {
            let source = format!("{}{}{dot4}", shader.source, count_rows(counter));
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
            Kernel { module, bind_group_layout, pipeline_layout, pipelines: Vec::new(), bind_groups: HashMap::new() }
        })
    }
}
