//! Splits a protocol buffer into its fields, as far as reading ONNX files needs it.

/// The bytes are not a valid protocol buffer.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

pub(super) fn text(bytes: &[u8]) -> Result<String, Malformed> {
    String::from_utf8(bytes.to_vec()).map_err(|_| Malformed)
}

/// A field's value by its wire type.
pub(super) enum Wire<'a> {
    Bytes(&'a [u8]),
    Integer(u64),
}

/// Returns the fields of a message with their numbers; floats are skipped.
pub(super) fn fields(mut bytes: &[u8]) -> Result<Vec<(u64, Wire<'_>)>, Malformed> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        match tag & 7 {
            0 => found.push((tag >> 3, Wire::Integer(varint(&mut bytes)?))),
            1 => drop(take(&mut bytes, 8)?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).map_err(|_| Malformed)?;
                found.push((tag >> 3, Wire::Bytes(take(&mut bytes, length)?)));
            }
            5 => drop(take(&mut bytes, 4)?),
            _ => return Err(Malformed),
        }
    }
    Ok(found)
}

/// Returns those fields that are messages or text.
pub(super) fn messages(bytes: &[u8]) -> Result<Vec<(u64, &[u8])>, Malformed> {
    let found = fields(bytes)?.into_iter();
    let bytes = |(number, wire)| match wire {
        Wire::Bytes(bytes) => Some((number, bytes)),
        Wire::Integer(_) => None,
    };
    Ok(found.filter_map(bytes).collect())
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Result<&'a [u8], Malformed> {
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

fn varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let byte = take(bytes, 1)?[0];
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Malformed)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes a length-delimited field of up to 127 bytes.
    pub(in crate::folder) fn message(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).expect("a short one");
        [&[number << 3 | 2, length][..], content].concat()
    }

    #[test]
    fn a_field_is_read_as_it_was_written() {
        let bytes = [message(3, b"ab"), vec![1 << 3, 7], message(4, b"")].concat();
        assert_eq!(messages(&bytes), Ok(vec![(3, &b"ab"[..]), (4, &b""[..])]));
    }
}
