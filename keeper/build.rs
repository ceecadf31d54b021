//! Compiles the XDP program (`src/bpf/shunt.bpf.c`) with clang into `OUT_DIR/shunt.bpf.o`, which the keeper embeds.

use std::path::{Path, PathBuf};
use std::process::Command;

const SOURCE: &str = "src/bpf/shunt.bpf.c";
const INSTALL: &str = "install clang, the kernel headers and libbpf's: apt-get install clang linux-libc-dev libbpf-dev";

fn main() -> Result<(), String> {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    let clang = std::env::var("CLANG").unwrap_or_else(|_| "clang".into());
    let output = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run by cargo")?);
    let mut command = Command::new(&clang);
    command.args(["-O2", "-g", "-Wall", "-Werror", "-target", "bpf"]);
    // <linux/types.h> includes <asm/types.h>, which Debian keeps in the host architecture's own folder.
    for folder in asm_folders() {
        command.arg("-idirafter").arg(folder);
    }
    let status = command
        .args(["-c", SOURCE, "-o"])
        .arg(output.join("shunt.bpf.o"))
        .status()
        .map_err(|error| format!("{clang}: {error}; the XDP program needs it: {INSTALL}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{clang} could not compile {SOURCE} ({status}); if headers are missing: {INSTALL}"))
    }
}

/// The folders that may hold the host's `asm/types.h`.
fn asm_folders() -> Vec<PathBuf> {
    let architecture = std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let folder = Path::new("/usr/include").join(format!("{architecture}-linux-gnu"));
    folder.is_dir().then_some(folder).into_iter().collect()
}
