//! Arguments that both commands take.

use std::path::PathBuf;

use clap::ValueEnum;
use sttabt::{BackendKind, BackendOptions};

use super::labels::Reading;

/// Where the model is.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// Model folder in Hugging Face layout [default: $STTABT_MODEL, else models/sst2-minilm, for images models/deit-tiny]
    #[arg(long, value_name = "DIR")]
    pub model: Option<PathBuf>,
}

/// Where to compute.
#[derive(Clone, clap::Args)]
pub struct DeviceArgs {
    /// auto: a hardware GPU if there is one, else the CPU; gpu: any GPU adapter, software ones included
    #[arg(long, value_enum, default_value_t = BackendArg::Auto, value_name = "BACKEND")]
    pub backend: BackendArg,
    /// Take the GPU adapter whose name contains NAME
    #[arg(long, value_name = "NAME")]
    pub adapter: Option<String>,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum BackendArg {
    Auto,
    Gpu,
    Cpu,
}

impl DeviceArgs {
    pub fn options(&self) -> BackendOptions {
        let kind = match self.backend {
            BackendArg::Auto => BackendKind::Auto,
            BackendArg::Gpu => BackendKind::Gpu,
            BackendArg::Cpu => BackendKind::Cpu,
        };
        BackendOptions { kind, adapter: self.adapter.clone(), ..BackendOptions::default() }
    }
}

/// Which rows of a labelled file, and what its columns are.
#[derive(Clone, Default, clap::Args)]
pub struct ColumnArgs {
    /// Take N inputs only: the first rows of a file, images spread evenly over the classes, or the first queries that can be measured
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub limit: Option<u32>,
    /// Name or number (from 1) of the column with the text [default: by its usual names]
    #[arg(long, value_name = "COLUMN")]
    pub text_column: Option<String>,
    /// Name or number of the column with the second text [default: by its usual names]
    #[arg(long, value_name = "COLUMN")]
    pub pair_column: Option<String>,
    /// Name or number of the column with the label [default: by its usual names]
    #[arg(long, value_name = "COLUMN")]
    pub label_column: Option<String>,
    /// The file has no header line; columns are given by number
    #[arg(long)]
    pub no_header: bool,
    /// Leave out rows with missing columns or an empty text, such as some of QQP's, and say how many
    #[arg(long)]
    pub skip_broken_rows: bool,
    /// Read labels, or the names of class folders, by the model's names or by index [default: whichever fits all of them]
    #[arg(long, value_enum, value_name = "READING")]
    pub labels: Option<Reading>,
}
