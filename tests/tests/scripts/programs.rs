//! Each program says which one it is, and refuses in the same form: `NAME: reason`, with status 78; a wrong command line
//! gives 2, of `shunt` 64, because 2 is what its status says of a Shunt that doesn't serve.

use crate::{install, said};
use shunt_tests::operator::{binaries, root};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

const PROGRAMS: &[&str] =
    &["shunt", "shunt-keeper", "shunt-control", "shunt-switcher", "shunt-ifdaemon", "shunt-agent"];

fn program(name: &str) -> Command {
    Command::new(binaries().expect("the release build").join(name))
}

#[test]
fn every_program_says_its_own_name_and_version() {
    for name in PROGRAMS {
        let (status, text, _) = said(&program(name).arg("--version").output().expect(name));
        assert_eq!((status, text), (Some(0), format!("{name} {}\n", env!("CARGO_PKG_VERSION"))));
    }
}

#[test]
fn every_program_refuses_a_wrong_command_line_as_misuse() {
    for name in PROGRAMS {
        let (status, text, errors) = said(&program(name).arg("--no-such-option").output().expect(name));
        let misused = if *name == "shunt" { 64 } else { 2 };
        assert_eq!((status, text.as_str()), (Some(misused), ""), "{errors}");
        assert!(errors.contains("--no-such-option"), "{errors}");
    }
}

/// A copy where an ordinary user may execute it, and that user.
fn as_nobody(original: &Path, folder: &Path) -> Command {
    let copy = folder.join(original.file_name().expect("a name"));
    install(original, &copy);
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "nobody", "--clear-groups"]).arg(copy);
    command
}

#[test]
fn an_ordinary_user_is_told_to_be_root() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: becoming another user needs root");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755)).expect("an open folder");
    let configuration = folder.path().join("minimal.toml");
    std::fs::copy(root().join("deploy/examples/minimal.toml"), &configuration).expect("a copy");
    // Somebody else's instance, closed to others as the keeper's folder is.
    let instance = format!("closed-{}", std::process::id());
    let closed = Path::new("/run/shunt").join(&instance);
    std::fs::create_dir_all(&closed).expect("a folder");
    std::fs::set_permissions(&closed, PermissionsExt::from_mode(0o700)).expect("a closed folder");
    let text = std::fs::read_to_string(&configuration).expect("an example");
    std::fs::write(&configuration, format!("instance = \"{instance}\"\n{text}")).expect("a configuration");

    let file = configuration.to_str().expect("a path");
    let bin = binaries().expect("the release build");
    let supervisor = root().join("deploy/shunt-supervisor");
    let cases: [(&Path, &[&str]); 5] = [
        (&supervisor, &[file]),
        (&bin.join("shunt-keeper"), &["--config", file]),
        (&bin.join("shunt-control"), &["--config", file]),
        (&bin.join("shunt-switcher"), &["--instance", &instance, "--number", "0"]),
        (&bin.join("shunt-ifdaemon"), &["--instance", &instance]),
    ];
    let results = cases.map(|(program, arguments)| {
        let mut command = as_nobody(program, folder.path());
        said(&command.args(arguments).env("SHUNT_BIN", folder.path()).output().expect("setpriv, of util-linux"))
    });
    std::fs::remove_dir_all(&closed).expect("the folder is removed");
    for ((program, _), (status, _, errors)) in cases.iter().zip(results) {
        let name = program.file_name().expect("a name").to_string_lossy();
        assert_eq!(status, Some(78), "{name}: {errors}");
        assert!(errors.contains("as root") && errors.contains(&*name), "{name}: {errors}");
        assert_eq!(errors.lines().count(), 1, "{name}: {errors}");
    }
}
