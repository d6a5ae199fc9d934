//! The map of characters of a `Precompiled` normalizer, which the `tokenizers` crate follows without looking where it leads.
//!
//! It is a double-array trie in front of the replacements: `[bytes of the trie: u32][units: u32 …][replacements, each ended by 0]`.

/// The longest piece of a text that the crate looks up.
const MAX_KEY_BYTES: usize = 5;

/// Whether the crate can follow a map, whatever the text is; the reason if it cannot.
pub fn check(base64: &str) -> Result<(), String> {
    let bytes = decode(base64).ok_or("not base64")?;
    let (size, rest) = bytes.split_first_chunk().ok_or("no length of its trie")?;
    let trie_bytes = u32::from_le_bytes(*size) as usize / 4 * 4;
    let (trie, replacements) = rest
        .split_at_checked(trie_bytes)
        .ok_or_else(|| format!("a trie of {trie_bytes} bytes, but the map has {}", rest.len()))?;
    let trie: Vec<u32> = trie.as_chunks().0.iter().copied().map(u32::from_le_bytes).collect();
    let replacements = std::str::from_utf8(replacements).map_err(|_| "replacements that are not UTF-8")?;
    check_trie(&trie, replacements).ok_or_else(|| "a trie that leads out of it".to_owned())
}

/// Looks at every place that a key of at most [`MAX_KEY_BYTES`] bytes leads to.
fn check_trie(trie: &[u32], replacements: &str) -> Option<()> {
    let unit = |place: usize| trie.get(place).copied();
    let mut nodes = vec![offset(unit(0)?)];
    let mut seen = vec![false; trie.len()];
    for _ in 0..MAX_KEY_BYTES {
        let mut next = Vec::new();
        for node in nodes {
            // A text's 0 ends a key.
            for byte in 1..=255 {
                let found = unit(node ^ byte)?;
                if found & (1 << 31 | 0xff) != byte as u32 {
                    continue;
                }
                let child = node ^ byte ^ offset(found);
                if found & 1 << 8 != 0 {
                    let start = unit(child)? & !(1 << 31);
                    replacements.get(start as usize..)?;
                }
                // Beyond the trie only if no key goes on from here; the next round looks.
                if !seen.get_mut(child).is_some_and(|seen| std::mem::replace(seen, true)) {
                    next.push(child);
                }
            }
        }
        nodes = next;
    }
    Some(())
}

/// From a unit to its children.
fn offset(unit: u32) -> usize {
    (unit as usize >> 10) << ((unit & 1 << 9) >> 6)
}

/// Strict base64 with padding: what passes here, the crate's decoder takes as well.
fn decode(text: &str) -> Option<Vec<u8>> {
    let value = |byte: u8| {
        Some(match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        })
    };
    let (groups, []) = text.as_bytes().as_chunks::<4>() else { return None };
    let mut bytes = Vec::with_capacity(3 * groups.len());
    for (index, group) in groups.iter().enumerate() {
        let num_padding = match group {
            [.., b'=', b'='] => 2,
            [.., b'='] => 1,
            _ => 0,
        };
        if num_padding > 0 && index + 1 < groups.len() {
            return None;
        }
        let mut bits = 0;
        for &byte in &group[..4 - num_padding] {
            bits = bits << 6 | u32::from(value(byte)?);
        }
        bits <<= 6 * num_padding;
        let [_, decoded @ ..] = bits.to_be_bytes();
        let (kept, dropped) = decoded.split_at(3 - num_padding);
        if dropped.iter().any(|&byte| byte != 0) {
            return None;
        }
        bytes.extend(kept);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trie of one key, `b`, which leads to `replacement`.
    fn map(replacement: u32) -> Vec<u8> {
        let mut trie = vec![0_u32; 256];
        // The root's children begin at 0; the unit of `b` has a leaf, whose value is beside it.
        trie[0] = 0;
        trie[usize::from(b'b')] = u32::from(b'b') | 1 << 8 | 1 << 10;
        trie[usize::from(b'b') ^ 1] = replacement | 1 << 31;
        let mut bytes = 1024_u32.to_le_bytes().to_vec();
        bytes.extend(trie.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend("xé\0".bytes());
        bytes
    }

    fn base64(bytes: &[u8]) -> String {
        const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for group in bytes.chunks(3) {
            let bits = group.iter().chain([&0; 2]).take(3).fold(0, |bits, &byte| bits << 8 | usize::from(byte));
            let digits = (0..4).map(|digit| char::from(DIGITS[bits >> (18 - 6 * digit) & 63]));
            text.extend(digits.take(group.len() + 1).chain(['='; 2]).take(4));
        }
        text
    }

    #[test]
    fn base64_is_strict() {
        for bytes in [&b""[..], b"a", b"ab", b"abc", b"abcd", &[0xff, 0xfe, 0x00, 0x80, 0x7f]] {
            assert_eq!(decode(&base64(bytes)).as_deref(), Some(bytes));
        }
        for text in ["a", "YQ", "YQ=", "YR==", "YWI", "YWK=", "Y===", "YQ==YQ==", "Y!==", "====", "YWJj\n"] {
            assert_eq!(decode(text), None, "{text}");
        }
    }

    #[test]
    fn maps_that_lead_astray_are_refused() {
        let whole = map(1);
        assert_eq!(check(&base64(&whole)), Ok(()));
        assert_eq!(check(&base64(&map(4))), Ok(()));
        let with = |place: usize, unit: u32| {
            let mut bytes = whole.clone();
            bytes[4 + 4 * place..8 + 4 * place].copy_from_slice(&unit.to_le_bytes());
            bytes
        };
        let astray = "a trie that leads out of it";
        let cases: Vec<(Vec<u8>, &str)> = vec![
            (vec![], "no length of its trie"),
            (vec![0, 0, 0], "no length of its trie"),
            (vec![0; 4], astray),
            (whole[..900].to_vec(), "a trie of 1024 bytes, but the map has 896"),
            (whole[..whole.len() - 2].to_vec(), "replacements that are not UTF-8"),
            // Inside `é`, and behind the last replacement.
            (map(2), astray),
            (map(5), astray),
            // The root's children, and the value of `b`, beyond the trie.
            (with(0, 256 << 10), astray),
            (with(usize::from(b'b'), u32::from(b'b') | 1 << 8 | 256 << 10), astray),
        ];
        for (bytes, expected) in cases {
            assert_eq!(check(&base64(&bytes)), Err(expected.to_owned()));
        }
        assert_eq!(check("?"), Err("not base64".to_owned()));
    }
}
