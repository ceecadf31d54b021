//! Checks whether the regions fit into /dev/shm, and whether they can use huge pages.

use super::super::format::bytes;
use super::files::Files;
use super::finding::Finding;
use nix::sys::statvfs::statvfs;
use shunt_config::Config;
use shunt_instances::Shapes;
use shunt_process::region_name;
use shunt_shmlayout::regions::PORTS;

/// Runs the checks.
pub fn examine(files: &Files, config: Option<&Config>) -> Vec<Finding> {
    vec![space(files, config), huge_pages(&files.text("proc/mounts").unwrap_or_default())]
}

fn space(files: &Files, config: Option<&Config>) -> Finding {
    const CHECK: &str = "shm";
    let free = match statvfs(&files.path("dev/shm")) {
        Ok(stat) => stat.blocks_available() * stat.fragment_size(),
        Err(error) => {
            return Finding::fail(CHECK, format!("/dev/shm: {error}"), "mount -t tmpfs tmpfs /dev/shm");
        }
    };
    match config {
        None => Finding::ok(CHECK, format!("{} are free in /dev/shm", bytes(free))),
        Some(config) => enough(free, needed(config), present(files, config)),
    }
}

/// Total size of a configuration's regions, with the maximum number of ports.
fn needed(config: &Config) -> u64 {
    Shapes::new(config, (config.switchers.cpus.count() * PORTS) as u64).bytes()
}

/// Bytes that the instance's regions already occupy.
fn present(files: &Files, config: &Config) -> u64 {
    let prefix = region_name(&config.instance, "").trim_start_matches('/').to_owned();
    let own = files.list("dev/shm").into_iter().filter(|name| name.starts_with(&prefix));
    own.filter_map(|name| std::fs::metadata(files.path(&format!("dev/shm/{name}"))).ok()).map(|file| file.len()).sum()
}

fn enough(free: u64, needed: u64, present: u64) -> Finding {
    const CHECK: &str = "shm";
    let room = free + present;
    if room >= needed {
        return Finding::ok(CHECK, format!("{} needed, {} free in /dev/shm", bytes(needed), bytes(room)));
    }
    let mebibytes = (needed - present).div_ceil(1 << 20) + 64;
    Finding::fail(
        CHECK,
        format!("{} needed, but only {} free in /dev/shm", bytes(needed), bytes(room)),
        format!("mount -o remount,size={mebibytes}M /dev/shm (more, if others use it too), or lower [limits]"),
    )
}

/// Files in /dev/shm get huge pages by that mount's option; shmem_enabled applies to mappings without a mount.
fn huge_pages(mounts: &str) -> Finding {
    const CHECK: &str = "huge-pages";
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(1) == Some(&"/dev/shm"));
    let options = mount.and_then(|fields| fields.get(3).map(|options| (*options).to_owned())).unwrap_or_default();
    let huge = options.split(',').find_map(|option| option.strip_prefix("huge="));
    match huge {
        Some(kind @ ("always" | "within_size")) => Finding::ok(CHECK, format!("/dev/shm has huge={kind}")),
        _ => Finding::warn(
            CHECK,
            "/dev/shm gives 4 KiB pages: with many connections each lookup misses the TLB",
            "before Shunt is started: mount -o remount,huge=within_size /dev/shm",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Level;
    use super::*;

    #[test]
    fn what_is_there_already_counts_as_room() {
        assert_eq!(enough(100, 150, 0).level, Level::Fail);
        assert_eq!(enough(100, 150, 50).level, Level::Ok);
    }

    #[test]
    fn a_million_connections_need_about_a_hundred_megabytes() {
        let text =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/examples/nat.toml")).unwrap();
        let config = Config::parse(&text, "nat.toml").unwrap();
        let mut double = config.clone();
        double.limits.connections *= 2;
        let more = needed(&double) - needed(&config);
        assert!((90_000_000..100_000_000).contains(&more), "{more}");
    }

    #[test]
    fn the_mount_option_decides_about_huge_pages() {
        assert_eq!(huge_pages("tmpfs /dev/shm tmpfs rw,nosuid,huge=within_size 0 0").level, Level::Ok);
        assert_eq!(huge_pages("tmpfs /dev/shm tmpfs rw,nosuid,huge=never 0 0").level, Level::Warn);
        assert_eq!(huge_pages("tmpfs /run tmpfs rw,huge=always 0 0").level, Level::Warn);
    }
}
