//! What stands behind the parts that every relay knows: fields, each with its number and its length, so that a relay passes
//! over one that it does not know (as in RFC 3630, section 2.3.2). What a field means belongs to whoever asks for it.

/// Some fields that have been checked: their numbers ascend, and nothing is left over.
///
/// On the wire each is its number and the length of its value, as varints of postcard, and the value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    /// All that these bytes are; `None` if they are something else.
    pub fn read(bytes: &'a [u8]) -> Option<Fields<'a>> {
        let (mut rest, mut next) = (bytes, 0);
        while !rest.is_empty() {
            let ((number, _), behind) = split(rest)?;
            if number < next {
                return None;
            }
            // After the highest number there is none.
            (rest, next) = (behind, number.checked_add(1)?);
        }
        Some(Fields(bytes))
    }

    /// Each number and its value.
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let (field, behind) = split(rest)?;
            rest = behind;
            Some(field)
        })
    }

    /// The value of one.
    pub fn get(self, number: u32) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == number).map(|(_, value)| value)
    }

    /// How many there are besides these.
    pub fn besides(self, known: &[u32]) -> usize {
        self.iter().filter(|(number, _)| !known.contains(number)).count()
    }
}

/// Its number and its value.
pub type Field<'a> = (u32, &'a [u8]);

/// Appends a field to `out`. Numbers have to ascend, and the highest of all, [`u32::MAX`], is none.
pub fn write(out: &mut Vec<u8>, number: u32, value: &[u8]) {
    let head = postcard::to_stdvec(&(number, value.len())).expect("numbers always serialize");
    out.extend_from_slice(&head);
    out.extend_from_slice(value);
}

fn split(bytes: &[u8]) -> Option<(Field<'_>, &[u8])> {
    if bytes.is_empty() { None } else { postcard::take_from_bytes(bytes).ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_read_back_as_written() {
        let long = vec![7; 70_000];
        let mut bytes = Vec::new();
        write(&mut bytes, 0, b"");
        write(&mut bytes, 3, b"three");
        write(&mut bytes, 1 << 20, &long);
        let fields = Fields::read(&bytes).expect("fields");
        assert_eq!(fields.iter().collect::<Vec<_>>(), [(0, &b""[..]), (3, b"three"), (1 << 20, &long[..])]);
        assert_eq!((fields.get(3), fields.get(4)), (Some(&b"three"[..]), None));
        assert_eq!((fields.besides(&[3]), fields.besides(&[])), (2, 3));
        assert_eq!(Fields::read(&[]), Some(Fields::default()));
        assert!((1..5).all(|cut| Fields::read(&bytes[..bytes.len() - cut]).is_none()));
    }

    #[test]
    fn a_number_stands_once_and_in_order() {
        for numbers in [[3, 3], [4, 3], [u32::MAX, 0]] {
            let mut bytes = Vec::new();
            numbers.iter().for_each(|number| write(&mut bytes, *number, b"x"));
            assert_eq!(Fields::read(&bytes), None, "{numbers:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes: Vec<u8>) {
            if let Some(fields) = Fields::read(&bytes) {
                let mut again = Vec::new();
                fields.iter().for_each(|(number, value)| write(&mut again, number, value));
                prop_assert_eq!(Fields::read(&again).map(|f| f.iter().count()), Some(fields.iter().count()));
            }
        }
    }
}
