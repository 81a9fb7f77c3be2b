//! Small files that a power cut leaves either as they were or new and whole, never half.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Everybody may read it.
pub const PUBLIC: u32 = 0o644;
/// Its owner only.
pub const SECRET: u32 = 0o600;

/// Puts `bytes` in the place of the file at `path`, and makes the directory it is in.
///
/// # Errors
///
/// When the directory cannot be made, or the file not be written, synced or put in its place: the old one is
/// there then, unless only the last sync of the directory failed.
pub fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(directory)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, path)?;
    File::open(directory)?.sync_all()
}
