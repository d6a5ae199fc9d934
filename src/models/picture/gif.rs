//! The first frame of a GIF, as Pillow shows it (`GifImagePlugin.py`, `libImaging/GifDecode.c`).

use super::Picture;
use super::file::{Reader, check_size, from_palette};

/// Bits of the longest code.
const MAX_BITS: u32 = 12;
const NUM_CODES: usize = 1 << MAX_BITS;

/// Where a frame lies on the screen, and how it is coded.
struct Frame {
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    is_interlaced: bool,
    bits: u32,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let mut reader = Reader { format: "GIF", bytes };
    reader.take(6)?;
    let (mut width, mut height) = (usize::from(reader.u16()?), usize::from(reader.u16()?));
    let [flags, _background, _aspect_ratio] = reader.array()?;
    let screens = palette(&mut reader, flags)?;
    let mut background = 0;
    loop {
        match reader.array()? {
            [b';'] => return Err("broken GIF image: it has no frame".to_owned()),
            [b'!'] => {
                let [kind] = reader.array()?;
                let block = block(&mut reader)?;
                if let (0xf9, &[flags, _, _, transparent, ..]) = (kind, block) {
                    // What the frame leaves free, and no more: transparent pixels have their colour.
                    background = if flags & 1 == 1 { transparent } else { background };
                }
                let mut is_last = block.is_empty();
                while !is_last {
                    is_last = self::block(&mut reader)?.is_empty();
                }
            }
            [b','] => break,
            // Pillow looks for the next of these three.
            _ => {}
        }
    }
    let [x, y, frame_width, frame_height] =
        [reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?].map(usize::from);
    let [flags] = reader.array()?;
    let palette =
        palette(&mut reader, flags)?.or(screens).unwrap_or_else(|| std::array::from_fn(|grey| [grey as u8; 3]));
    let [bits] = reader.array()?;
    (width, height) = (width.max(x + frame_width), height.max(y + frame_height));
    check_size(frame_width as u64, frame_height as u64)?;
    check_size(width as u64, height as u64)?;
    let is_interlaced = flags & 0x40 != 0;
    let frame = Frame { x, y, width: frame_width, height: frame_height, is_interlaced, bits: bits.into() };
    let mut indices = vec![background; width * height];
    draw(&mut reader, &frame, &mut indices, width)?;
    Ok(Picture { width, height, rgb: from_palette(&indices, &palette) })
}

/// The palette that follows, if the flags say so; black where it lacks colours. One that makes each index its own grey counts as none.
fn palette(reader: &mut Reader<'_>, flags: u8) -> Result<Option<[[u8; 3]; 256]>, String> {
    if flags & 0x80 == 0 {
        return Ok(None);
    }
    let (colors, _) = reader.take(3 << ((flags & 7) + 1))?.as_chunks();
    if colors.iter().enumerate().all(|(grey, color)| *color == [grey as u8; 3]) {
        return Ok(None);
    }
    let mut palette = [[0; 3]; 256];
    palette[..colors.len()].copy_from_slice(colors);
    Ok(Some(palette))
}

/// A block of data; an empty one ends a series.
fn block<'a>(reader: &mut Reader<'a>) -> Result<&'a [u8], String> {
    let [length] = reader.array()?;
    reader.take(length.into())
}

/// LZW. Whatever follows the last pixel does not matter.
fn draw(reader: &mut Reader<'_>, frame: &Frame, indices: &mut [u8], stride: usize) -> Result<(), String> {
    let broken = || "broken GIF image: a code that means nothing".to_owned();
    if frame.bits > MAX_BITS {
        return Err(format!("broken GIF image: codes of {} bits", frame.bits));
    }
    let mut rows = Rows::new(frame);
    let (clear, end) = (1_usize << frame.bits, (1_usize << frame.bits) + 1);
    let (mut links, mut values) = (vec![0_u16; NUM_CODES], vec![0_u8; NUM_CODES]);
    let (mut next, mut code_size) = (clear + 2, frame.bits + 1);
    // The code before, and the first value of what it stands for; none after a clear code.
    let mut last: Option<(usize, u8)> = None;
    let (mut bit_buffer, mut num_bits, mut data) = (0_u64, 0, &[][..]);
    // Of one code, from the end.
    let mut run: Vec<u8> = Vec::with_capacity(NUM_CODES);
    loop {
        while num_bits < code_size {
            match data {
                [byte, rest @ ..] => {
                    bit_buffer |= u64::from(*byte) << num_bits;
                    num_bits += 8;
                    data = rest;
                }
                // Pillow reads on behind a block that is empty, too.
                [] => data = block(reader)?,
            }
        }
        let mask = (1 << code_size) - 1;
        let code = bit_buffer as usize & mask;
        bit_buffer >>= code_size;
        num_bits -= code_size;
        if code == clear {
            (next, code_size, last) = (clear + 2, frame.bits + 1, None);
            continue;
        }
        if code == end {
            continue;
        }
        run.clear();
        let Some((last_code, last_value)) = last else {
            if code > clear {
                return Err(broken());
            }
            last = Some((code, code as u8));
            run.push(code as u8);
            if !rows.put(&run, indices, stride) {
                return Ok(());
            }
            continue;
        };
        let mut place = code;
        if code > next {
            return Err(broken());
        }
        if code == next {
            run.push(last_value);
            place = last_code;
        }
        while place >= clear {
            if run.len() >= NUM_CODES || place >= NUM_CODES {
                return Err(broken());
            }
            run.push(values[place]);
            place = usize::from(links[place]);
        }
        let first = place as u8;
        run.push(first);
        if next < NUM_CODES {
            (values[next], links[next]) = (first, last_code as u16);
            if next == mask && code_size < MAX_BITS {
                code_size += 1;
            }
            next += 1;
        }
        last = Some((code, first));
        if !rows.put(&run, indices, stride) {
            return Ok(());
        }
    }
}

/// The rows of a frame, in the order in which they come, and the place in the row.
struct Rows<'a> {
    frame: &'a Frame,
    /// First row and step of the passes to come, the last first.
    passes: Vec<(usize, usize)>,
    step: usize,
    x: usize,
    y: usize,
}

impl<'a> Rows<'a> {
    fn new(frame: &'a Frame) -> Self {
        let (passes, step) = if frame.is_interlaced { (vec![(1, 2), (2, 4), (4, 8)], 8) } else { (vec![], 1) };
        Self { frame, passes, step, x: 0, y: 0 }
    }

    /// Draws a run that is in reverse order; false when the frame is full.
    fn put(&mut self, run: &[u8], indices: &mut [u8], stride: usize) -> bool {
        for &index in run.iter().rev() {
            let place = (self.frame.y + self.y) * stride + self.frame.x + self.x;
            if let Some(pixel) = indices.get_mut(place) {
                *pixel = index;
            }
            self.x += 1;
            if self.x < self.frame.width {
                continue;
            }
            self.x = 0;
            self.y += self.step;
            while self.y >= self.frame.height {
                let Some((first, step)) = self.passes.pop() else { return false };
                (self.y, self.step) = (first, step);
            }
        }
        true
    }
}
