//! Creation, attachment and refusal, on real POSIX shared memory.

use super::*;
use crate::map::Region;
use crate::word::Word8;

fn shape() -> KeeperShape {
    KeeperShape { interfaces: 4, switchers: 2, ports: 8, reserved: [0; 5] }
}

/// A region name of this test alone, unlinked at its end whatever happens.
struct Named(String);

impl Named {
    fn new(what: &str) -> Self {
        Self(format!("/shunt.test-{}-{what}", std::process::id()))
    }

    fn file(&self) -> std::path::PathBuf {
        Path::new("/dev/shm").join(&self.0[1..])
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.file());
    }
}

fn refusal(name: &Named) -> String {
    KeeperRegion::<Reader>::attach(&name.0).err().expect("refused").to_string()
}

fn overwrite(name: &Named, offset: u64, bytes: &[u8]) {
    use std::os::unix::fs::FileExt;
    std::fs::OpenOptions::new().write(true).open(name.file()).unwrap().write_all_at(bytes, offset).unwrap();
}

#[test]
fn what_the_creator_writes_a_reader_sees() {
    let name = Named::new("sees");
    let (writer, _fd) = KeeperRegion::create(&name.0, &shape(), |view| view.head.pid.set(7)).unwrap();
    let (reader, _fd) = KeeperRegion::<Reader>::attach(&name.0).unwrap();
    assert_eq!(reader.head.pid.get(), 7);
    writer.ports[3].store(&PortRecord { switcher: 1, kind: 1, ..Default::default() });
    assert_eq!(reader.ports().map(|port| port.switcher).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_second_creation_is_refused() {
    let name = Named::new("second");
    let _first = KeeperRegion::create(&name.0, &shape(), |_| ()).unwrap();
    assert!(KeeperRegion::create(&name.0, &shape(), |_| ()).is_err());
}

#[test]
fn each_wrong_field_is_named() {
    let fields = [
        (0, "magic"),
        (8, "layout version"),
        (16, "kind"),
        (24, "layout hash"),
        (32, "size"),
        (40, "boot id"),
        (72, "ready word"),
        (128, "size"), // the shape's first number, after a header of two cache lines
    ];
    for (offset, field) in fields {
        let name = Named::new(&format!("field-{offset}"));
        let _made = KeeperRegion::create(&name.0, &shape(), |_| ()).unwrap();
        overwrite(&name, offset, &[0xa5]);
        let text = refusal(&name);
        assert!(text.contains(field) && text.contains(": "), "{offset}: {text}");
    }
}

#[test]
fn missing_short_foreign_and_linked_memory_is_refused() {
    let name = Named::new("refused");
    assert!(refusal(&name).contains("is Shunt running?"));
    std::fs::write(name.file(), [0u8; 40]).unwrap();
    assert!(refusal(&name).contains("permission"));
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(name.file(), std::fs::Permissions::from_mode(0o600)).unwrap();
    assert!(refusal(&name).contains("size is 40, expected at least"));
    std::fs::remove_file(name.file()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", name.file()).unwrap();
    assert!(refusal(&name).contains("open"));
}

#[test]
fn a_connection_costs_at_most_96_bytes() {
    for connections in [1 << 16, 1_000_000, 10_000_000] {
        let bytes = <ConnectionsRegion>::length(&ConnectionsShape::new(connections));
        assert!(bytes as f64 / f64::from(connections) <= 96.0, "{connections}: {bytes}");
    }
}

/// What the slots of the indexes can't name isn't taken for a capacity.
#[test]
fn a_capacity_beyond_what_slots_can_name_is_refused_by_name() {
    let chunk = crate::connections::CHUNK as u64;
    let most = crate::connections::ENTRIES_MAX as u64 / chunk * chunk;
    let fault = |capacity| <ConnectionsRegion>::fault(&ConnectionsShape { capacity, ..ConnectionsShape::new(1) });
    assert_eq!([most, most + chunk].map(fault), [None, Some("capacity")]);
}

proptest::proptest! {
    /// A whole image of arbitrary bytes under a valid header: attaching and looking through it never panics.
    #[test]
    fn any_image_is_refused_or_read(noise in proptest::collection::vec(proptest::num::u8::ANY, 64), at in 128usize..4096) {
        let shape = ConnectionsShape::new(1024);
        let region = Region::anonymous(<ConnectionsRegion>::KIND, <ConnectionsRegion>::layout_hash(), <ConnectionsRegion>::length(&shape)).unwrap();
        ConnectionsRegion::write_shape(&region, &shape).unwrap();
        let bytes: &[Word8<Writer>] = region.parts().take(region.length());
        for (byte, value) in bytes[at..].iter().zip(&noise) {
            byte.store(*value, crate::sync::Ordering::Relaxed);
        }
        if let Ok((view, _)) = ConnectionsRegion::<Writer>::read_shape(&region, "test")
            && let Some(table) = view.table()
        {
            let _ = table.live().count();
            let mut owner = crate::connections::Owner::adopt(table, 0, Default::default());
            owner.sweep(2048, |_, _| true, |_, _| {});
        }
    }

    /// The same of a packet store: what is popped is no longer than a cell, and ends.
    #[test]
    fn any_image_of_a_store_is_refused_or_read(noise in proptest::collection::vec(proptest::num::u8::ANY, 64), at in 128usize..1024) {
        let shape = StoreShape::new(8);
        let region = Region::anonymous(<StoreRegion>::KIND, <StoreRegion>::layout_hash(), <StoreRegion>::length(&shape)).unwrap();
        StoreRegion::write_shape(&region, &shape).unwrap();
        let bytes: &[Word8<Writer>] = region.parts().take(region.length());
        for (byte, value) in bytes[at..].iter().zip(&noise) {
            byte.store(*value, crate::sync::Ordering::Relaxed);
        }
        if let Ok((view, _)) = StoreRegion::<Writer, Writer>::read_shape(&region, "test") {
            for ring in [view.to_host, view.from_host] {
                let (mut producer, mut consumer, mut packet) = (ring.producer(), ring.consumer(), [0; 4096]);
                while let Some(length) = consumer.pop(&mut packet) {
                    proptest::prop_assert!(length <= crate::store::PACKET_BYTES);
                }
                let _ = producer.push(&[1; 60]);
                producer.publish();
                proptest::prop_assert!(ring.depth() <= ring.capacity());
            }
        }
    }
}

/// A keeper may remove memory of another boot, but not this.
#[test]
fn an_unreadable_boot_id_is_a_system_error() {
    use nix::mount::{MsFlags, mount};
    use nix::sched::{CloneFlags, unshare};
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: mount namespaces need root");
        return;
    }
    let name = Named::new("boot");
    let _made = KeeperRegion::create(&name.0, &shape(), |_| ()).unwrap();
    let without_proc = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::empty(), none).unwrap();
        refusal(&name)
    };
    let refused = std::thread::scope(|scope| scope.spawn(without_proc).join().unwrap());
    assert!(refused.contains("read the boot id"), "{refused}");
}
