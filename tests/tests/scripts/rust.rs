//! `deploy/install-packages`, where Rust is too old: rustup's installer runs, unless it is declined or out of reach.

use crate::{said, write_program};
use shunt_tests::operator::root;
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

/// What Shunt needs, by Cargo.toml.
const WANTED: &str = env!("CARGO_PKG_RUST_VERSION");

/// A user whose cargo is old.
struct User(TempDir);

impl User {
    fn new() -> Self {
        let user = Self(tempfile::tempdir().expect("a folder"));
        std::fs::create_dir(user.path().join("old")).expect("a folder");
        write_program(&user.path().join("old/cargo"), "#!/bin/sh\necho 'cargo 1.60.0 (2022-03-01)'\n");
        user
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// An installer that brings a cargo of `version`, and where it is.
    fn offer(&self, version: &str) -> String {
        let path = self.path().join("installer");
        let text = format!(
            "echo \"$RUSTUP_INIT_SKIP_PATH_CHECK\" \"$@\" >>\"$HOME/ran\"\nmkdir -p \"$HOME/.cargo/bin\"\n\
             printf '#!/bin/sh\\necho cargo {version}\\n' >\"$HOME/.cargo/bin/cargo\"\nchmod 755 \"$HOME/.cargo/bin/cargo\"\n"
        );
        write_program(&path, &text);
        format!("file://{}", path.display())
    }

    /// What the installer was called with, one line a call.
    fn calls(&self) -> String {
        std::fs::read_to_string(self.path().join("ran")).unwrap_or_default()
    }

    fn install(&self, arguments: &[&str], installer: &str) -> (Option<i32>, String) {
        let search = format!("{}/old:/usr/sbin:/usr/bin:/sbin:/bin", self.path().display());
        let mut command = Command::new(root().join("deploy/install-packages"));
        command.args(arguments).env_remove("CARGO_HOME").env("PATH", search).env("HOME", self.path());
        let (status, text, errors) = said(&command.env("RUST_INSTALLER", installer).output().expect("a script"));
        (status, text + &errors)
    }
}

#[test]
fn an_old_rust_is_left_for_one_of_rustups_installer() {
    let user = User::new();
    let installer = user.offer(&format!("{WANTED}.0"));
    let (status, text) = user.install(&["build"], &installer);
    assert_eq!(status, Some(0), "{text}");
    assert!(
        text.contains(&format!("cargo is 1.60.0, and Shunt needs Rust {WANTED} or later: running rustup's installer"))
    );
    assert_eq!(user.calls(), format!("yes -y --profile minimal --default-toolchain {WANTED}\n"));
    assert_eq!(user.install(&["build"], &installer), (Some(0), String::new()), "there is nothing to do any more");
    assert_eq!(user.calls().lines().count(), 1);
}

#[test]
fn a_rust_that_does_not_run_counts_as_missing() {
    let user = User::new();
    write_program(&user.path().join("old/cargo"), "#!/bin/sh\necho 'no default toolchain' >&2\nexit 1\n");
    let installer = user.offer(&format!("{WANTED}.0"));
    let (status, text) = user.install(&["--no-rust", "build"], &installer);
    assert!(
        status == Some(1) && text.contains(&format!("install-packages: Shunt needs Rust {WANTED} or later")),
        "{text}"
    );
    let (status, text) = user.install(&["build"], &installer);
    assert_eq!((status, user.calls().lines().count()), (Some(0), 1), "{text}");
}

#[test]
fn a_rust_that_is_declined_is_not_installed() {
    let user = User::new();
    let installer = user.offer(&format!("{WANTED}.0"));
    for arguments in [["--no-rust", "build"], ["build", "--no-rust"]] {
        let (status, text) = user.install(&arguments, &installer);
        assert_eq!(status, Some(1), "{text}");
        assert!(text.contains("cargo is 1.60.0") && text.contains("--no-rust") && text.contains("by hand"), "{text}");
    }
    assert_eq!(user.calls(), "");
}

#[test]
fn an_installer_out_of_reach_leaves_a_message_what_to_do() {
    let user = User::new();
    let (status, text) = user.install(&["build"], "file:///nonexistent/installer");
    assert_eq!(status, Some(1), "{text}");
    let wanted = format!("install Rust {WANTED} or later by hand");
    let words = ["cannot reach rustup's installer", &wanted, "https://rustup.rs", "RUST_INSTALLER"];
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

#[test]
fn an_installer_that_brings_an_old_rust_is_no_success() {
    let user = User::new();
    let installer = user.offer("1.61.0");
    let (status, text) = user.install(&["build"], &installer);
    assert!(status == Some(1) && text.contains(".cargo/bin/cargo is not Rust"), "{text}");
}
