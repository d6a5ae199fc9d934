//! `sttabt convert`: one `model.safetensors` of whatever weights a model folder has.

use std::io::{self, Write};
use std::path::Path;

use sttabt::{ModelFiles, Weights};

use super::args::ConvertArgs;
use super::written::Written;
use super::{Failure, Result, visible};

pub fn run(args: &ConvertArgs) -> Result<()> {
    let folder = &args.folder;
    if !folder.is_dir() {
        return Err(Failure::Error(format!("no model folder at {}", folder.display())));
    }
    let out = args.out.as_deref().filter(|out| !is_same(out, folder));
    let mut files = ModelFiles::from_dir(folder)?;
    let approx = files.remove_folder("approx");
    let safetensors = ModelFiles::KNOWN.weights[0];
    let (mut written, mut lines, mut copied) = (Vec::new(), Vec::new(), Vec::new());
    for (network, mut files) in [("", files), ("approx/", approx)] {
        let forms = ModelFiles::KNOWN.weights;
        let Some(form) = forms.iter().find(|form| files.get(form).is_some()) else { continue };
        // In its own folder that file would be written over.
        if out.is_none() && *form == safetensors {
            continue;
        }
        let in_folder = |error: sttabt::Error| Failure::Error(format!("{}: {error}", folder.display()));
        let weights = Weights::from_files(network, &mut files).map_err(in_folder)?;
        let (header, pieces) = weights.to_safetensors();
        let target = out.unwrap_or(folder).join(format!("{network}{safetensors}"));
        let num_bytes = header.len() + pieces.iter().map(|piece| piece.len()).sum::<usize>();
        lines.push(format!(
            "{}: {} tensors, {:.1} MB, from {network}{form}",
            target.display(),
            pieces.len(),
            num_bytes as f64 / 1e6
        ));
        written.push(Written::new(target, [&*header].into_iter().chain(pieces))?);
        let Some(out) = out else { continue };
        for name in files.names() {
            let bytes = files.get(name).unwrap_or_default();
            written.push(Written::new(out.join(format!("{network}{name}")), [bytes])?);
            copied.push(format!("{network}{name}"));
        }
    }
    if written.is_empty() {
        let there = folder.join(safetensors);
        return Err(Failure::Error(format!("{} is there already: nothing to convert", there.display())));
    }
    // All files are complete by now.
    written.into_iter().try_for_each(Written::keep)?;
    let mut stdout = io::stdout().lock();
    for line in lines {
        writeln!(stdout, "{}", visible(&line))?;
    }
    if !copied.is_empty() {
        writeln!(stdout, "copied: {}", visible(&copied.join(", ")))?;
    }
    stdout.flush()?;
    Ok(())
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
