//! The one file that knows the target: futures are `Send` natively, and cannot be in a browser.

use std::pin::Pin;

/// A future that a caller hands to the engine.
#[cfg(not(target_arch = "wasm32"))]
pub type PauseFuture = Pin<Box<dyn Future<Output = ()> + Send>>;
/// A future that a caller hands to the engine.
#[cfg(target_arch = "wasm32")]
pub type PauseFuture = Pin<Box<dyn Future<Output = ()>>>;

/// Called between layers, see [`crate::Engine::set_pause`].
#[cfg(not(target_arch = "wasm32"))]
pub type Pause = Box<dyn Fn() -> PauseFuture + Send + Sync>;
/// Called between layers, see [`crate::Engine::set_pause`].
#[cfg(target_arch = "wasm32")]
pub type Pause = Box<dyn Fn() -> PauseFuture>;
