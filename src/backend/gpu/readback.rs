//! Reading back: what is recorded is submitted at once, and its words are waited for when they are wanted.

use super::queue::{Copy, Recorder};
use crate::error::{Error, Result};

/// A read that was started.
pub struct Readback {
    submission: wgpu::SubmissionIndex,
    /// `None` if there is nothing to read.
    mapping: Option<Mapping>,
}

struct Mapping {
    staging: wgpu::Buffer,
    total: u64,
    receiver: futures_channel::oneshot::Receiver<Result<(), wgpu::BufferAsyncError>>,
}

impl Recorder {
    /// Submits, and has `bytes` from `offset` of every buffer mapped after it.
    pub fn start_read(&mut self, copies: &[Copy<'_>]) -> Readback {
        let total: u64 = copies.iter().map(|(_, _, bytes)| bytes).sum();
        if total == 0 {
            return Readback { submission: self.submit(None), mapping: None };
        }
        let is_large_enough = |staging: &wgpu::Buffer| staging.size() >= total;
        let staging = match self.staging.iter().position(is_large_enough) {
            Some(place) => self.staging.swap_remove(place),
            None => {
                self.staging.clear();
                self.counters.buffers += 1;
                self.open.device.create_buffer(&wgpu::BufferDescriptor {
                    label: Some("staging"),
                    size: total.next_power_of_two(),
                    usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                    mapped_at_creation: false,
                })
            }
        };
        let submission = self.submit(Some((&staging, copies)));
        let (sender, receiver) = futures_channel::oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, 0..total, move |outcome| {
            // Nobody listens when the run was dropped.
            let _ = sender.send(outcome);
        });
        self.counters.maps += 1;
        // Firefox looks whether a mapping is done when something is submitted, and otherwise ten times a second.
        self.open.queue.submit([]);
        Readback { submission, mapping: Some(Mapping { staging, total, receiver }) }
    }

    /// The bytes of a read that was started, one buffer's after another's.
    ///
    /// # Errors
    /// What the device reported since the last call: [`Error::DeviceLost`], [`Error::OutOfMemory`], [`Error::Gpu`].
    pub async fn finish_read(&mut self, readback: Readback) -> Result<Vec<u32>> {
        let Readback { submission, mapping } = readback;
        let Some(Mapping { staging, total, receiver }) = mapping else {
            return self.check().await.map(|()| Vec::new());
        };
        // Natively this runs the device until that submit is done, and no later one; in a browser it does nothing.
        let wait = wgpu::PollType::Wait { submission_index: Some(submission), timeout: None };
        if let Err(error) = self.open.device.poll(wait) {
            self.errors().set(Error::Gpu { message: format!("waiting for the device: {error}") });
        }
        let mapped = receiver.await;
        self.check().await?;
        match mapped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(Error::DeviceLost { reason: format!("mapping failed: {error}") }),
            Err(_) => return Err(Error::DeviceLost { reason: "the mapping was dropped".to_owned() }),
        }
        let words = {
            let view = staging.slice(0..total).get_mapped_range();
            let view = view.map_err(|error| Error::Gpu { message: format!("reading back: {error}") })?;
            bytemuck::pod_collect_to_vec::<u8, u32>(&view)
        };
        staging.unmap();
        self.staging.push(staging);
        if let Some(timing) = &mut self.timing {
            timing.read(&self.open.device).await?;
            self.counters.maps += 1;
        }
        Ok(words)
    }

    /// Multiply-adds that the kernels counted since [`Recorder::start_counting`].
    #[cfg(feature = "internals")]
    pub async fn counted(&mut self) -> Result<u64> {
        let Some(buffer) = self.counter.as_ref().map(|counter| counter.buffer.clone()) else { return Ok(0) };
        let readback = self.start_read(&[(&buffer, 0, 8)]);
        let words = self.finish_read(readback).await?;
        Ok(u64::from(words[0]) | u64::from(words[1]) << 32)
    }
}
