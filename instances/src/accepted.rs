//! The configuration that an instance accepted last: a file in its directory with the whole text and, as its last line, the
//! path of its origin. Control writes it for successors of control and keeper that find an invalid file on disk.

use std::path::Path;

use shunt_config::document::read_text;
use shunt_process::{Instance, accepted_configuration, instances};

const ORIGIN: &str = "# accepted from ";

/// The text to keep for a configuration read from `origin`. Line numbers stay the same.
pub fn with_origin(text: &str, origin: &Path) -> String {
    format!("{}\n{ORIGIN}{}\n", text.trim_end_matches('\n'), origin.display())
}

/// The instance whose configuration came from the file at this absolute path, if exactly one matches.
pub fn instance_of(file: &Path) -> Option<Instance> {
    let found: Vec<Instance> =
        instances().into_iter().filter(|instance| is_from(&accepted_configuration(instance), file)).collect();
    <[Instance; 1]>::try_from(found).ok().map(|[only]| only)
}

fn is_from(accepted: &Path, origin: &Path) -> bool {
    let last_line = format!("{ORIGIN}{}", origin.display());
    read_text(accepted).is_ok_and(|text| text.lines().last() == Some(&last_line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use std::fs::File;

    #[test]
    fn the_origin_is_found_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("accepted.toml");
        std::fs::write(&path, with_origin("a = 1\n\n", Path::new("/etc/a.toml"))).unwrap();
        assert!(is_from(&path, Path::new("/etc/a.toml")));
        assert!(!is_from(&path, Path::new("/etc/b.toml")));
    }

    #[test]
    fn what_is_no_configuration_is_from_nowhere_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let [fifo, huge] = ["fifo", "huge"].map(|name| folder.path().join(name));
        nix::unistd::mkfifo(&fifo, Mode::S_IRWXU).unwrap();
        File::create(&huge).unwrap().set_len(3 << 30).unwrap();
        for path in [&fifo, &huge, &folder.path().join("none")] {
            assert!(!is_from(path, Path::new("/etc/a.toml")), "{}", path.display());
        }
    }
}
