//! BMP as Pillow reads it (`BmpImagePlugin.py`).

use super::Picture;
use super::file::{Reader, check_size, from_palette};

const RAW: u32 = 0;
const RLE8: u32 = 1;
const RLE4: u32 = 2;
const BITFIELDS: u32 = 3;

/// Masks of 32 bits that Pillow knows, alpha last. It is dropped.
const MASKS_OF_32: [[u32; 4]; 7] = [
    [0xff_0000, 0xff00, 0xff, 0],
    [0xff00_0000, 0xff_0000, 0xff00, 0],
    [0xff00_0000, 0xff00, 0xff, 0],
    [0xff00_0000, 0xff_0000, 0xff00, 0xff],
    [0xff, 0xff00, 0xff_0000, 0xff00_0000],
    [0xff_0000, 0xff00, 0xff, 0xff00_0000],
    [0xff00_0000, 0xff00, 0xff, 0xff_0000],
];
const BGRX: [u32; 3] = [0xff_0000, 0xff00, 0xff];
const BGR_555: [u32; 3] = [0x7c00, 0x3e0, 0x1f];
const BGR_565: [u32; 3] = [0xf800, 0x7e0, 0x1f];

struct Header {
    width: usize,
    height: usize,
    is_top_down: bool,
    bits: u16,
    compression: u32,
    /// Colours of the palette; 0 for all that the bits can name.
    num_colors: u32,
    /// Bytes of one of them.
    color_bytes: usize,
    /// Those of red, green, blue and alpha, if there are any.
    masks: Option<[u32; 4]>,
}

pub(super) fn decode(bytes: &[u8]) -> Result<Picture, String> {
    let mut reader = Reader { format: "BMP", bytes };
    reader.take(10)?;
    let mut offset = reader.u32()? as usize;
    let header_size = reader.u32()?;
    let header = header(&mut reader, header_size)?;
    let Header { width, height, bits, compression, .. } = header;
    check_size(width as u64, height as u64)?;
    if !matches!(bits, 1 | 4 | 8 | 16 | 24 | 32) {
        return Err(format!("BMP image with an unsupported depth: {bits} bits"));
    }
    let num_colors = if header.num_colors == 0 { 1 << bits.min(31) } else { header.num_colors as usize };
    // Some writers forget the palette when they say where the pixels are.
    if offset == 14 + header_size as usize && bits <= 8 {
        offset = offset.saturating_add(header.color_bytes.saturating_mul(num_colors));
    }
    let masks = masks(&header)?;
    let indexed = bits <= 8;
    let palette = if indexed { palette(&mut reader, num_colors, header.color_bytes)? } else { [[0; 3]; 256] };
    let at = if offset == 0 { bytes.len() - reader.bytes.len() } else { offset };
    let data = bytes.get(at..).unwrap_or_default();
    let rgb = match compression {
        RLE8 | RLE4 if indexed => from_palette(&run_lengths(data, at, &header)?, &palette),
        _ if indexed => from_palette(&rows(data, &header, |row| unpacked(row, width, bits))?, &palette),
        _ => rows(data, &header, |row| colors(row, width, bits, masks))?,
    };
    let rgb = if header.is_top_down { rgb } else { rgb.chunks_exact(3 * width).rev().flatten().copied().collect() };
    Ok(Picture { width, height, rgb })
}

fn header(reader: &mut Reader<'_>, header_size: u32) -> Result<Header, String> {
    if header_size == 12 {
        let [width, height] = [reader.u16()?, reader.u16()?].map(usize::from);
        let _planes = reader.u16()?;
        let bits = reader.u16()?;
        let is_top_down = false;
        return Ok(Header {
            width,
            height,
            is_top_down,
            bits,
            compression: RAW,
            num_colors: 0,
            color_bytes: 3,
            masks: None,
        });
    }
    if ![40, 52, 56, 64, 108, 124].contains(&header_size) {
        return Err(format!("BMP image with an unsupported header of {header_size} bytes"));
    }
    let mut fields = Reader { format: reader.format, bytes: reader.take(header_size as usize - 4)? };
    let (width, height) = (fields.u32()?, fields.u32()?);
    let is_top_down = height >> 24 == 0xff;
    let height = if is_top_down { height.wrapping_neg() } else { height };
    let _planes = fields.u16()?;
    let bits = fields.u16()?;
    let compression = fields.u32()?;
    let [_data_size, _x_per_meter, _y_per_meter, num_colors, _important] =
        [fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?, fields.u32()?];
    let mut masks = None;
    if compression == BITFIELDS {
        let is_inside = header_size >= 52;
        let source = if is_inside { &mut fields } else { reader };
        let [red, green, blue] = [source.u32()?, source.u32()?, source.u32()?];
        masks = Some([red, green, blue, if header_size >= 56 { fields.u32()? } else { 0 }]);
    }
    let (width, height) = (width as usize, height as usize);
    Ok(Header { width, height, is_top_down, bits, compression, num_colors, color_bytes: 4, masks })
}

/// Where red, green and blue are in a pixel of more than 8 bits.
fn masks(header: &Header) -> Result<[u32; 3], String> {
    let usual = if header.bits == 16 { BGR_555 } else { BGRX };
    let is_indexed = header.bits <= 8;
    match (header.compression, header.masks) {
        (BITFIELDS, Some(masks)) => {
            let [red, green, blue, _] = masks;
            let rgb = [red, green, blue];
            let is_known = match header.bits {
                32 if masks == [0; 4] => return Ok(usual),
                32 => MASKS_OF_32.contains(&masks),
                24 => rgb == BGRX,
                16 => rgb == BGR_555 || rgb == BGR_565,
                _ => false,
            };
            if is_known { Ok(rgb) } else { Err("BMP image with unsupported masks of its colours".to_owned()) }
        }
        (RAW, _) => Ok(usual),
        (RLE8 | RLE4, _) if is_indexed => Ok(usual),
        (compression, _) => Err(format!("BMP image with an unsupported compression: {compression}")),
    }
}

/// The palette; black where it lacks colours. Where each index is its own grey, so are those beyond it.
fn palette(reader: &mut Reader<'_>, num_colors: usize, color_bytes: usize) -> Result<[[u8; 3]; 256], String> {
    let unsupported = || Err(format!("BMP image with an unsupported palette of {num_colors} colours"));
    if num_colors > 1 << 16 {
        return unsupported();
    }
    let bytes = reader.bytes.get(..num_colors * color_bytes).unwrap_or(reader.bytes);
    reader.bytes = &reader.bytes[bytes.len()..];
    let colors: Vec<[u8; 3]> = bytes.chunks_exact(color_bytes).map(|color| [color[2], color[1], color[0]]).collect();
    if colors.len() == num_colors && colors.iter().enumerate().all(|(grey, color)| *color == [grey as u8; 3]) {
        return Ok(std::array::from_fn(|grey| [grey as u8; 3]));
    }
    let mut palette = [[0; 3]; 256];
    let Some(known) = palette.get_mut(..colors.len()) else { return unsupported() };
    known.copy_from_slice(&colors);
    Ok(palette)
}

/// Each row unpacked, in the file's order. The last one needs no padding.
fn rows<'a, I: IntoIterator<Item = u8>>(
    data: &'a [u8],
    header: &Header,
    unpack: impl Fn(&'a [u8]) -> I,
) -> Result<Vec<u8>, String> {
    let row_bits = header.width as u64 * u64::from(header.bits);
    let (row_bytes, stride) = (row_bits.div_ceil(8), row_bits.div_ceil(32) * 4);
    let end = stride * (header.height as u64 - 1) + row_bytes;
    if (data.len() as u64) < end {
        return Err("truncated BMP image".to_owned());
    }
    Ok(data[..end as usize].chunks(stride as usize).flat_map(|row| unpack(&row[..row_bytes as usize])).collect())
}

/// Indices of 1, 4 or 8 bits, the highest first.
fn unpacked(row: &[u8], width: usize, bits: u16) -> impl Iterator<Item = u8> {
    let (bits, per_byte) = (u32::from(bits), 8 / usize::from(bits));
    let mask = u8::MAX >> (8 - bits);
    (0..width).map(move |x| {
        let shift = 8 - bits * (x % per_byte + 1) as u32;
        row[x / per_byte] >> shift & mask
    })
}

/// Red, green and blue, widened to 8 bits.
fn colors(row: &[u8], width: usize, bits: u16, masks: [u32; 3]) -> impl Iterator<Item = u8> {
    let pixels = row.chunks_exact(usize::from(bits) / 8).take(width);
    pixels.flat_map(move |pixel| {
        let value = pixel.iter().rev().fold(0, |value, &byte| value << 8 | u32::from(byte));
        masks.map(|mask| {
            let max = mask >> mask.trailing_zeros();
            ((value & mask) >> mask.trailing_zeros()).wrapping_mul(255).checked_div(max).unwrap_or(0) as u8
        })
    })
}

/// Indices in runs. `at` is where they begin in the file: some are aligned there.
fn run_lengths(data: &[u8], at: usize, header: &Header) -> Result<Vec<u8>, String> {
    let is_rle4 = header.compression == RLE4;
    let (width, num_pixels) = (header.width, header.width * header.height);
    let mut indices: Vec<u8> = Vec::new();
    let mut reader = Reader { format: "BMP", bytes: data };
    let mut x = 0;
    while indices.len() < num_pixels {
        let Ok([length, byte]) = reader.array() else { break };
        let nibbles = |index: usize| if index.is_multiple_of(2) { byte >> 4 } else { byte & 15 };
        match (length, byte) {
            (0, 0) => {
                indices.resize(indices.len().next_multiple_of(width), 0);
                x = 0;
            }
            (0, 1) => break,
            (0, 2) => {
                let Ok([right, up]) = reader.array() else { break };
                let step = usize::from(right) + usize::from(up) * width;
                indices.resize(num_pixels.min(indices.len() + step), 0);
                x = indices.len() % width;
            }
            (0, count) => {
                let num_indices = (num_pixels - indices.len()).min(count.into());
                let num_bytes = if is_rle4 { num_indices.div_ceil(2) } else { num_indices };
                let Ok(bytes) = reader.take(num_bytes) else { break };
                if is_rle4 {
                    let both = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
                    indices.extend(both.take(num_indices));
                } else {
                    indices.extend(bytes);
                }
                x += usize::from(count);
                if !(at + data.len() - reader.bytes.len()).is_multiple_of(2) {
                    reader.bytes = reader.bytes.get(1..).unwrap_or_default();
                }
            }
            (length, _) => {
                // What does not fit the row is cut off.
                let length = usize::from(length).min(width.saturating_sub(x));
                if is_rle4 {
                    indices.extend((0..length).map(nibbles));
                } else {
                    indices.resize(indices.len() + length, byte);
                }
                x += length;
            }
        }
    }
    if indices.len() < num_pixels {
        return Err("truncated BMP image".to_owned());
    }
    indices.truncate(num_pixels);
    Ok(indices)
}
