//! The kernels on a GPU through wgpu.
