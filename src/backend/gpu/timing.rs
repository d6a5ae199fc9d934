//! How long the GPU takes for each stage: a compute pass per stage, with timestamps at its ends.

use super::super::Stage;
use crate::error::{Error, Result};

/// Passes of a chunk that are timed; any that follow are not.
const MAX_PASSES: u32 = 1024;
const TIMESTAMP_BYTES: u64 = 8;

/// The timestamps of a chunk.
pub struct StageTiming {
    queries: wgpu::QuerySet,
    /// Where timestamps become numbers, and where the host reads them.
    resolved: wgpu::Buffer,
    staging: wgpu::Buffer,
    period_ns: f64,
    /// The stage of every pass that has two timestamps.
    passes: Vec<Stage>,
    /// What was read since the last [`Self::take`].
    stages_ms: Vec<(Stage, f64)>,
}

impl StageTiming {
    /// `None` when the device cannot tell the time.
    pub fn new(device: &wgpu::Device, queue: &wgpu::Queue) -> Option<Self> {
        if !device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return None;
        }
        let buffer = |label, usage| {
            let size = 2 * TIMESTAMP_BYTES * u64::from(MAX_PASSES);
            device.create_buffer(&wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false })
        };
        Some(Self {
            queries: device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("stages"),
                ty: wgpu::QueryType::Timestamp,
                count: 2 * MAX_PASSES,
            }),
            resolved: buffer("stages", wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC),
            staging: buffer("stages, read", wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            period_ns: f64::from(queue.get_timestamp_period()),
            passes: Vec::new(),
            stages_ms: Vec::new(),
        })
    }

    /// Forgets the passes of a chunk that was not read.
    pub fn start(&mut self) {
        self.passes.clear();
    }

    /// What a pass of this stage writes.
    pub fn pass(&mut self, stage: Stage) -> Option<wgpu::ComputePassTimestampWrites<'_>> {
        let place = 2 * self.passes.len() as u32;
        if place >= 2 * MAX_PASSES {
            return None;
        }
        self.passes.push(stage);
        Some(wgpu::ComputePassTimestampWrites {
            query_set: &self.queries,
            beginning_of_pass_write_index: Some(place),
            end_of_pass_write_index: Some(place + 1),
        })
    }

    /// Copies the timestamps to where the host can read them.
    pub fn resolve(&self, encoder: &mut wgpu::CommandEncoder) {
        let count = 2 * self.passes.len() as u32;
        if count > 0 {
            encoder.resolve_query_set(&self.queries, 0..count, &self.resolved, 0);
            let bytes = TIMESTAMP_BYTES * u64::from(count);
            encoder.copy_buffer_to_buffer(&self.resolved, 0, &self.staging, 0, bytes);
        }
    }

    /// Reads the timestamps of a chunk whose work is done.
    pub async fn read(&mut self, device: &wgpu::Device) -> Result<()> {
        let passes = std::mem::take(&mut self.passes);
        if passes.is_empty() {
            return Ok(());
        }
        let failed = |what: String| Error::Gpu { message: format!("reading timestamps: {what}") };
        let bytes = 2 * TIMESTAMP_BYTES * passes.len() as u64;
        let (sender, receiver) = futures_channel::oneshot::channel();
        self.staging.map_async(wgpu::MapMode::Read, 0..bytes, move |outcome| {
            // Nobody listens when the run was dropped.
            let _ = sender.send(outcome);
        });
        device.poll(wgpu::PollType::wait_indefinitely()).map_err(|error| failed(error.to_string()))?;
        match receiver.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(failed(error.to_string())),
            Err(_) => return Err(failed("the mapping was dropped".to_owned())),
        }
        {
            let view = self.staging.slice(0..bytes).get_mapped_range().map_err(|error| failed(error.to_string()))?;
            let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&view[..]);
            for (stage, ends) in passes.iter().zip(ticks.chunks_exact(2)) {
                // A clock that was set back meanwhile gives no time.
                let ms = ends[1].saturating_sub(ends[0]) as f64 * self.period_ns / 1e6;
                match self.stages_ms.iter_mut().find(|(known, _)| known == stage) {
                    Some((_, sum)) => *sum += ms,
                    None => self.stages_ms.push((*stage, ms)),
                }
            }
        }
        self.staging.unmap();
        Ok(())
    }

    /// Milliseconds of every stage since the last call, in the order in which they began.
    pub fn take(&mut self) -> Vec<(Stage, f64)> {
        std::mem::take(&mut self.stages_ms)
    }
}
