//! A network on a device: its uploaded weights, its scratch memory, and the passes through its layers.

mod layer;
mod memory;
mod pass;
mod upload;

pub(crate) use memory::Workspace;
pub(crate) use pass::{HeadRows, Hook, KeepMaps, NoMaps, Sets};
pub(crate) use upload::Encoder;
