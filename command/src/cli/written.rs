//! Files that are written whole or not at all, and never over others.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::model_dir::unreadable;
use super::{Failure, Result};

/// A file under a name of its own until all are complete; else it is removed.
pub struct Written {
    part: PathBuf,
    target: PathBuf,
}

impl Written {
    /// Writes a file beside the target.
    pub fn new<'a>(target: PathBuf, pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Self> {
        refuse_present(&target)?;
        let mut part = target.clone().into_os_string();
        part.push(format!(".{}.part", std::process::id()));
        let written = Self { part: part.into(), target };
        let write = || -> io::Result<()> {
            fs::create_dir_all(written.part.parent().unwrap_or(Path::new(".")))?;
            let mut file = BufWriter::new(File::create(&written.part)?);
            pieces.into_iter().try_for_each(|piece| file.write_all(piece))?;
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
        };
        write().map_err(|error| unwritable(&written.target, &error))?;
        Ok(written)
    }

    /// Gives it the target's name.
    pub fn keep(self) -> Result<()> {
        refuse_present(&self.target)?;
        fs::rename(&self.part, &self.target).map_err(|error| unwritable(&self.target, &error))
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        // After `keep` there is nothing of this name.
        let _ = fs::remove_file(&self.part);
    }
}

fn refuse_present(target: &Path) -> Result<()> {
    match target.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(Failure::Error(format!(
            "{} is there already, and is not written over: name a new folder with --out",
            target.display()
        ))),
        Err(error) => Err(unreadable(target, &error)),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    Failure::Error(format!("cannot write {}: {error}", path.display()))
}
