//! The relays this one was paired with: a file in the data directory, one id in a line. What `--trust` is for
//! the operator who types ids, this file is for the one who compares codes.

use std::{collections::BTreeSet, fs, io, path::Path};

use protocol::{NodeId, ZoneName};

use crate::storage::atomic_file;

/// The file below `--data`.
pub const FILE: &str = "trusted";

/// Reads it; nobody is trusted if it is not there.
///
/// # Errors
///
/// When the file cannot be read, and as [`parse`].
pub fn read(data: &Path) -> io::Result<BTreeSet<NodeId>> {
    let text = match fs::read_to_string(data.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeSet::new()),
        Err(error) => return Err(error),
    };
    parse(&text)
}

/// The ids in the text of the file; `#` begins a remark.
///
/// # Errors
///
/// `InvalidData`, with the first line that is no id.
pub fn parse(text: &str) -> io::Result<BTreeSet<NodeId>> {
    let ids = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    ids.filter(|id| !id.is_empty())
        .map(|id| {
            let wrong = format!("{FILE} in the data directory holds {id:?}, which is no relay's id");
            id.parse().map_err(|_| io::Error::new(io::ErrorKind::InvalidData, wrong))
        })
        .collect()
}

/// Adds a relay, if it is not there yet. What else is in the file stays.
///
/// # Errors
///
/// As [`read`], and when the file cannot be written.
pub fn add(data: &Path, node: NodeId, zone: &ZoneName) -> io::Result<()> {
    if read(data)?.contains(&node) {
        return Ok(());
    }
    let path = data.join(FILE);
    let mut text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(&format!("{node}  # {zone}\n"));
    atomic_file::write(&path, text.as_bytes(), atomic_file::PUBLIC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_is_added_once_and_remarks_stay() {
        let data = tempfile::tempdir().unwrap();
        assert!(read(data.path()).unwrap().is_empty());
        fs::write(data.path().join(FILE), "# by hand").unwrap();
        let (node, zone) = (NodeId([5; 32]), ZoneName::new("stage").unwrap());
        add(data.path(), node, &zone).unwrap();
        add(data.path(), node, &zone).unwrap();
        assert_eq!(read(data.path()).unwrap(), BTreeSet::from([node]));
        let text = fs::read_to_string(data.path().join(FILE)).unwrap();
        assert_eq!(text, format!("# by hand\n{node}  # stage\n"));
        fs::write(data.path().join(FILE), "junk").unwrap();
        assert!(read(data.path()).unwrap_err().to_string().contains("junk"));
    }
}
