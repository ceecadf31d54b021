//! Whether the hash tells layouts apart, and whether it covers all there is.

use super::*;
use crate::access::Reader;
use crate::regions::{
    ConnectionsRegion, ControlRegion, IfdaemonRegion, KeeperRegion, StoreRegion, SwitcherRegion, Typed,
};
use proptest::prelude::*;
use std::collections::BTreeSet;

/// Parts as somebody could have written them: names, sizes and offsets of fields, of so many structures.
fn parts(structures: &[Vec<(String, usize, usize)>]) -> Vec<Part> {
    let leak = |text: &str| -> &'static str { String::leak(text.to_owned()) };
    let number = |size| &*Box::leak(Box::new(Layout { name: "u8", size, is_atomic: false, fields: &[] }));
    let structure = |fields: &Vec<(String, usize, usize)>| {
        let field = |(name, size, offset): &(String, usize, usize)| Field {
            name: leak(name),
            offset: *offset,
            layout: number(*size),
        };
        let fields: &'static [Field] = Vec::leak(fields.iter().map(field).collect());
        let size = fields.iter().map(|field| field.offset + field.layout.size).max().unwrap_or(0);
        Part { offset: 0, count: 1, layout: Box::leak(Box::new(Layout { name: "S", size, is_atomic: false, fields })) }
    };
    structures.iter().map(structure).collect()
}

fn structures() -> impl Strategy<Value = Vec<Vec<(String, usize, usize)>>> {
    let field = ("[a-c]{1,3}", 1usize..9, 0usize..64);
    proptest::collection::vec(proptest::collection::vec(field, 1..6), 1..4)
}

proptest! {
    /// Any change of a name, a size, an offset or the order gives another hash.
    #[test]
    fn any_change_of_a_layout_changes_the_hash(before in structures(), which: [prop::sample::Index; 2], change in 0..5) {
        let mut after = before.clone();
        let of = which[0].index(after.len());
        let fields = &mut after[of];
        let (at, count) = (which[1].index(fields.len()), fields.len());
        match change {
            0 => fields[at].0.push('x'),
            1 => fields[at].1 += 1,
            2 => fields[at].2 += 1,
            3 => fields.swap(at, (at + 1) % count),
            _ => drop(fields.remove(at)),
        }
        prop_assert_eq!(hash(&parts(&before)) != hash(&parts(&after)), before != after);
    }
}

#[test]
fn two_fields_of_one_size_that_change_places_change_the_hash() {
    let fields = |names: [&str; 2]| vec![(names[0].to_owned(), 8, 0), (names[1].to_owned(), 8, 8)];
    assert_ne!(hash(&parts(&[fields(["head", "tail"])])), hash(&parts(&[fields(["tail", "head"])])));
}

fn collect(layout: &Layout, names: &mut BTreeSet<String>) {
    names.insert(layout.name.to_owned());
    layout.fields.iter().for_each(|field| collect(field.layout, names));
}

/// Names of all that is in some region and counts for its hash.
fn hashed() -> BTreeSet<String> {
    fn parts<R: Typed>() -> Vec<Part> {
        R::measure(&R::reference_shape()).taken().to_vec()
    }
    let regions = [
        parts::<ControlRegion>(),
        parts::<KeeperRegion>(),
        parts::<ConnectionsRegion>(),
        parts::<SwitcherRegion>(),
        parts::<StoreRegion>(),
        parts::<IfdaemonRegion<Reader>>(),
    ];
    let mut names = BTreeSet::new();
    regions.iter().flatten().for_each(|part| collect(part.layout, &mut names));
    names
}

/// The structures that the sources describe, and those that `map.rs` views.
fn in_sources() -> BTreeSet<String> {
    fn read(folder: &std::path::Path, text: &mut String) {
        for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match entry.is_dir() {
                true => read(&entry, text),
                false => *text += &std::fs::read_to_string(entry).unwrap(),
            }
        }
    }
    let mut text = String::new();
    read(std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), &mut text);
    let name = |rest: &str| -> String { rest.chars().take_while(|letter| letter.is_alphanumeric()).collect() };
    let described = text.split("\ndescribed!(").skip(1).map(name);
    let viewed = text
        .lines()
        .filter_map(|line| line.strip_prefix("    crate::")?.split_once(" as ").map(|(_, rest)| name(rest)));
    described.chain(viewed).filter(|name| !["plain", "atomic"].contains(&name.as_str())).collect()
}

#[test]
fn every_structure_counts_for_some_regions_hash() {
    let (hashed, there) = (hashed(), in_sources());
    assert!(there.len() > 30, "only {} structures found", there.len());
    let forgotten: Vec<_> = there.difference(&hashed).collect();
    assert!(forgotten.is_empty(), "{forgotten:?}");
}

#[test]
fn regions_of_other_structures_have_other_hashes() {
    let hashes = [
        <ControlRegion>::layout_hash(),
        <KeeperRegion>::layout_hash(),
        <ConnectionsRegion>::layout_hash(),
        <SwitcherRegion>::layout_hash(),
        <StoreRegion>::layout_hash(),
        <IfdaemonRegion>::layout_hash(),
    ];
    assert_eq!(hashes.iter().collect::<BTreeSet<_>>().len(), hashes.len());
}

#[test]
fn readers_and_writers_agree_about_the_layout() {
    use crate::access::Writer;
    assert_eq!(<ControlRegion>::layout_hash(), ControlRegion::<Writer>::layout_hash());
    assert_eq!(<SwitcherRegion>::layout_hash(), SwitcherRegion::<Reader, Writer>::layout_hash());
    assert_eq!(<StoreRegion>::layout_hash(), StoreRegion::<Writer, Reader>::layout_hash());
}
