//! Whether the store's directory can be used, found out by trying: permissions, read-only mounts and quotas have no
//! other common answer.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::path::Path;

use crate::cli::output::causes;

/// That `path` is a directory that can be written to, or can be made.
///
/// # Errors
/// What is wrong, for people.
pub(super) fn usable(path: &Path) -> Result<(), String> {
    match fs::metadata(path) {
        Ok(found) if !found.is_dir() => Err(format!("{} is not a directory", path.display())),
        Ok(_) => probe(path).map_err(|error| format!("cannot write to {}: {}", path.display(), causes(&error))),
        Err(error) if error.kind() == ErrorKind::NotFound => creatable(path),
        Err(error) => Err(format!("cannot use {}: {}", path.display(), causes(&error))),
    }
}

fn creatable(path: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("cannot create {}: {}", path.display(), causes(&error));
    for above in path.ancestors().skip(1) {
        // The last ancestor of a relative path is empty.
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match fs::metadata(above) {
            Ok(found) if !found.is_dir() => {
                return Err(format!("cannot create {}: {} is not a directory", path.display(), above.display()));
            }
            Ok(_) => return probe(above).map_err(failed),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

/// Makes a file and removes it again.
fn probe(directory: &Path) -> io::Result<()> {
    let file = directory.join(format!(".portcullis-check-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&file)?;
    fs::remove_file(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_there_or_can_be_made_and_stays_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(usable(dir.path()), Ok(()));
        assert_eq!(usable(&dir.path().join("a/b/c")), Ok(()));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);

        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(usable(&file), Err(format!("{} is not a directory", file.display())));
        let below = usable(&file.join("data")).unwrap_err();
        assert!(below.starts_with("cannot ") && below.contains("not a directory"), "{below}");
    }
}
