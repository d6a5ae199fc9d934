//! What the commands share, `sttabt-train` among them: failures, arguments for models and devices, model folders, data files.

pub mod command;
