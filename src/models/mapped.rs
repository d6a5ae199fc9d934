//! A file in the address space: what is read of it takes memory, which can be given back.

use std::fs::File;
use std::io;
use std::ops::Range;

use memmap2::Mmap;

/// A file that is mapped.
pub struct MappedFile(Mmap);

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl MappedFile {
    /// Maps a whole file.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn new(file: &File) -> io::Result<Self> {
        // SAFETY: the map is only read. A file that another process truncates meanwhile ends this one with SIGBUS, as
        // with every program that maps its model.
        unsafe { Mmap::map(file) }.map(Self)
    }

    /// Gives back the memory of pages that nobody needs soon. Whoever reads them gets them from the file again.
    pub(super) fn release(&self, bytes: Range<usize>) {
        // Where the system refuses, the memory stays taken, and nothing else changes.
        // SAFETY: nobody writes to the map, so that no page holds anything but the file's bytes.
        #[cfg(unix)]
        let _ = unsafe { self.0.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, bytes.start, bytes.len()) };
        // Windows has no such call.
        #[cfg(not(unix))]
        let _ = bytes;
    }
}
