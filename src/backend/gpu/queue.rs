//! Recording dispatches, cutting them into submits, and reading back.

use super::Counters;
use super::buffers::GpuBuffer;
use super::device::{ErrorSlot, OpenDevice, from_wgpu};
use super::kernel::{Constants, Kernels, Shader};
use super::row_counter::RowCounter;
use super::timing::StageTiming;
use super::variant::{Variant, Variants};
use crate::backend::Stage;
use crate::error::{Error, Result};
use crate::platform::LocalFuture;

/// Bytes between the `Params` of two dispatches: what WebGPU asks of dynamic offsets.
const PARAMS_STRIDE: usize = 256;
/// Dispatches of one submit at most.
const MAX_DISPATCHES: usize = 1024;
/// Workgroups in one dimension of a dispatch.
const MAX_WORKGROUPS: u32 = 65535;

/// A dispatch that waits for its submit.
struct Recorded {
    pipeline: wgpu::ComputePipeline,
    bind_group: wgpu::BindGroup,
    workgroups: (u32, u32),
    stage: Stage,
}

/// One dispatch of a kernel.
pub struct Dispatch<'a> {
    pub shader: &'static Shader,
    pub constants: &'a Constants,
    pub params: &'a [u8],
    pub buffers: &'a [&'a GpuBuffer],
    /// Workgroups, folded into two dimensions when they are too many for one.
    pub num_workgroups: usize,
    /// An upper bound of the work, for cutting submits.
    pub multiply_adds: u64,
}

/// A buffer, the first byte and the number of bytes to read back.
pub type Copy<'a> = (&'a wgpu::Buffer, u64, u64);

/// A device with its recording.
pub struct Recorder {
    pub open: OpenDevice,
    pub counters: Counters,
    /// What the kernels with variants run.
    pub variants: Variants,
    /// What is bound where a kernel writes nothing.
    pub unused: GpuBuffer,
    /// What dispatches belong to from now on.
    pub stage: Stage,
    /// When somebody measures.
    pub timing: Option<StageTiming>,
    kernels: Kernels,
    params: wgpu::Buffer,
    /// `Params` of the recorded dispatches, `PARAMS_STRIDE` apart.
    staged: Vec<u8>,
    recorded: Vec<Recorded>,
    /// Estimated work of the recorded dispatches.
    multiply_adds: u64,
    max_submit_multiply_adds: u64,
    /// Buffers that nothing is read from now: two where chunks overlap.
    pub staging: Vec<wgpu::Buffer>,
    next_id: u64,
    /// Outcomes of error scopes that have not been looked at.
    scopes: Vec<(String, LocalFuture<Option<wgpu::Error>>)>,
    /// That of a test which counts.
    pub counter: Option<RowCounter>,
}

impl Recorder {
    /// `max_submit_multiply_adds`: work after which a submit is cut.
    pub fn new(open: OpenDevice, max_submit_multiply_adds: u64) -> Self {
        let params = open.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: (PARAMS_STRIDE * MAX_DISPATCHES) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        let unused = GpuBuffer {
            buffer: open.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("unused"),
                size: 16,
                usage: wgpu::BufferUsages::STORAGE,
                mapped_at_creation: false,
            }),
            id: 0,
        };
        let kernels = Kernels::new(open.has_dot4);
        Self {
            open,
            counters: Counters::default(),
            variants: Variants::all(Variant::Wide),
            unused,
            stage: Stage::Host,
            timing: None,
            kernels,
            params,
            staged: Vec::new(),
            recorded: Vec::new(),
            multiply_adds: 0,
            max_submit_multiply_adds,
            staging: Vec::new(),
            next_id: 0,
            scopes: Vec::new(),
            counter: None,
        }
    }

    pub fn errors(&self) -> &ErrorSlot {
        &self.open.errors
    }

    /// A storage buffer of at least `bytes`.
    pub fn create_buffer(&mut self, label: &str, bytes: u64) -> Result<GpuBuffer> {
        let limit = self.open.device.limits().max_storage_buffer_binding_size;
        if bytes > limit {
            let backend = self.open.adapter.name.clone();
            return Err(Error::TooLarge { what: label.to_owned(), needed: bytes, limit, backend });
        }
        let scope = self.open.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.open.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some(label),
            // A binding has at least one vec4.
            size: bytes.max(16).next_multiple_of(16),
            usage: wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC,
            mapped_at_creation: false,
        });
        self.scopes.push((format!("{label} ({bytes} bytes)"), Box::pin(scope.pop())));
        self.counters.buffers += 1;
        self.next_id += 1;
        Ok(GpuBuffer { buffer, id: self.next_id })
    }

    /// A storage buffer with these contents.
    pub fn upload(&mut self, label: &str, bytes: &[u8]) -> Result<GpuBuffer> {
        let buffer = self.create_buffer(label, bytes.len() as u64)?;
        self.open.queue.write_buffer(&buffer.buffer, 0, bytes);
        Ok(buffer)
    }

    /// Writes into a buffer. The queue does so before what is submitted later, so kernels that are recorded are submitted first.
    pub fn write(&mut self, buffer: &GpuBuffer, offset: u64, bytes: &[u8]) {
        self.submit_recorded();
        self.open.queue.write_buffer(&buffer.buffer, offset, bytes);
    }

    /// Forgets bind groups and what a cancelled run has recorded, so that buffers nobody else holds are freed.
    pub fn release(&mut self) {
        self.clear();
        self.kernels.forget_bind_groups();
    }

    /// Starts or ends measuring stages; says whether it is on now.
    pub fn set_timing(&mut self, on: bool) -> bool {
        self.timing = if on { StageTiming::new(&self.open.device, &self.open.queue) } else { None };
        self.timing.is_some()
    }

    /// Whether somebody measures stages.
    pub fn is_timed(&self) -> bool {
        self.timing.is_some()
    }

    pub fn take_stages_ms(&mut self) -> Vec<(Stage, f64)> {
        self.timing.as_mut().map(StageTiming::take).unwrap_or_default()
    }

    /// Starts a chunk: stages that were timed before it and not read are forgotten.
    pub fn start(&mut self) {
        self.submit_recorded();
        if let Some(timing) = &mut self.timing {
            timing.start();
        }
    }

    fn clear(&mut self) {
        self.recorded.clear();
        self.staged.clear();
        self.multiply_adds = 0;
    }

    /// Records a dispatch, and submits when enough work has come together.
    pub fn dispatch(&mut self, dispatch: Dispatch<'_>) {
        if dispatch.num_workgroups == 0 {
            return;
        }
        let layout = self.counter.as_ref().map(|counter| &counter.layout);
        let device = &self.open.device;
        let (pipeline, is_new) = self.kernels.pipeline(device, layout, dispatch.shader, dispatch.constants);
        self.counters.pipelines += u64::from(is_new);
        let (bind_group, is_new) =
            self.kernels.bind_group(device, layout, dispatch.shader, &self.params, dispatch.buffers);
        self.counters.bind_groups += u64::from(is_new);
        let start = self.staged.len();
        self.staged.extend_from_slice(dispatch.params);
        self.staged.resize(start + PARAMS_STRIDE, 0);
        self.recorded.push(Recorded {
            pipeline,
            bind_group,
            workgroups: fold(dispatch.num_workgroups),
            stage: self.stage,
        });
        self.counters.dispatches += 1;
        self.multiply_adds += dispatch.multiply_adds;
        if self.multiply_adds >= self.max_submit_multiply_adds || self.recorded.len() == MAX_DISPATCHES {
            self.submit(None);
        }
    }

    fn submit_recorded(&mut self) {
        if !self.recorded.is_empty() {
            self.submit(None);
        }
    }

    /// Submits what is recorded, and copies into the staging buffer after it.
    pub fn submit(&mut self, copies: Option<(&wgpu::Buffer, &[Copy<'_>])>) -> wgpu::SubmissionIndex {
        // The queue orders this write after the submits before it, so every submit uses the buffer from its start.
        self.open.queue.write_buffer(&self.params, 0, &self.staged);
        let mut encoder =
            self.open.device.create_command_encoder(&wgpu::CommandEncoderDescriptor { label: Some("sttabt") });
        let mut place = 0;
        // One pass, or to measure them one for each stage.
        let is_timed = self.timing.is_some();
        for dispatches in self.recorded.chunk_by(|one, next| !is_timed || one.stage == next.stage) {
            let timestamp_writes = match (&mut self.timing, dispatches) {
                (Some(timing), [first, ..]) => timing.pass(first.stage),
                _ => None,
            };
            let descriptor = wgpu::ComputePassDescriptor { label: Some("sttabt"), timestamp_writes };
            let mut pass = encoder.begin_compute_pass(&descriptor);
            self.counters.passes += 1;
            for recorded in dispatches {
                pass.set_pipeline(&recorded.pipeline);
                pass.set_bind_group(0, &recorded.bind_group, &[(place * PARAMS_STRIDE) as u32]);
                if let Some(counter) = &self.counter {
                    pass.set_bind_group(1, &counter.bind_group, &[]);
                }
                pass.dispatch_workgroups(recorded.workgroups.0, recorded.workgroups.1, 1);
                place += 1;
            }
        }
        if let Some((staging, copies)) = copies {
            let mut at = 0;
            for &(source, offset, bytes) in copies {
                encoder.copy_buffer_to_buffer(source, offset, staging, at, bytes);
                at += bytes;
            }
            if let Some(timing) = &self.timing {
                timing.resolve(&mut encoder);
            }
        }
        let submission = self.open.queue.submit([encoder.finish()]);
        self.counters.submits += 1;
        self.clear();
        submission
    }

    /// The first error of the scopes and of the device.
    pub async fn check(&mut self) -> Result<()> {
        for (what, outcome) in std::mem::take(&mut self.scopes) {
            if let Some(error) = outcome.await {
                self.open.errors.set(from_wgpu(error, Some(&what)));
            }
        }
        self.open.errors.check()
    }

    /// From here on every kernel counts. Those that were made before do not, and are forgotten.
    #[cfg(feature = "internals")]
    pub fn start_counting(&mut self) {
        self.submit_recorded();
        self.kernels.clear();
        self.counter = Some(RowCounter::new(&self.open.device));
    }
}

/// Workgroups in two dimensions, at least as many as `count`.
fn fold(count: usize) -> (u32, u32) {
    let rows = count.div_ceil(MAX_WORKGROUPS as usize);
    (count.div_ceil(rows) as u32, rows as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enough workgroups in two dimensions, with less than a row too many.
    #[test]
    fn many_workgroups_are_folded() {
        for count in [1, 2, 65534, 65535, 65536, 131_071, 10_000_019, 1 << 31] {
            let (columns, rows) = fold(count);
            assert!(columns <= MAX_WORKGROUPS && rows <= MAX_WORKGROUPS, "{count}: {columns} × {rows}");
            let folded = columns as usize * rows as usize;
            assert!((count..count + rows as usize).contains(&folded), "{count}: {columns} × {rows}");
        }
    }
}
