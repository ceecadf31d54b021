//! What a publication costs control: from changed weights to the flip, for 1000 services with 1000 backends in all.
//!
//! `cargo bench -p publish --bench publication`. Without a keeper and without switchers: nobody is waited for, what is
//! measured is control's own work. Each row is the median and the 99th percentile of a hundred publications.

use std::time::{Duration, Instant};

use shunt_config::Config;
use shunt_publish::arp_cache::ArpCache;
use shunt_publish::fib::Fib;
use shunt_publish::image::{Image, hops};
use shunt_publish::publisher::Publisher;
use shunt_publish::table::{Capacity, NamedIds, Table};
use shunt_shmlayout::address::{BackendId, ServiceId};
use shunt_shmlayout::regions::{ControlRegion, ControlShape, KeeperRegion, KeeperShape, Whole};

const SERVICES: usize = 1000;
const BACKENDS: usize = 1000;
const ROUNDS: u64 = 100;

fn main() {
    println!("{SERVICES} services, {BACKENDS} backends in all, 1021 slots a service; median and p99 of {ROUNDS}, ms\n");
    println!(
        "{:>8}  {:>8}  {:>15}  {:>15}  {:>15}  {:>15}",
        "members", "changed", "slots", "image", "write and flip", "all"
    );
    for members in [1, 5] {
        for changed in [1, 10, 100, SERVICES] {
            let times = measure(members, changed);
            let columns: Vec<String> = times.into_iter().map(shown).collect();
            println!("{members:>8}  {changed:>8}  {}", columns.join("  "));
        }
    }
}

/// Times of each part and of all, for services of so many members of which so many have other weights each time.
fn measure(members: usize, changed: usize) -> [Vec<Duration>; 4] {
    let config = Config::parse(&text(members), "bench").expect("a valid configuration");
    let shape = ControlShape::new(1024, 4096, 4_194_304, 4096, 16_384);
    let region = ControlRegion::anonymous(&shape).expect("memory");
    let keeper = KeeperShape { interfaces: 1, switchers: 1, ports: 1, reserved: [0; 5] };
    let keeper = KeeperRegion::anonymous(&keeper).expect("memory");
    let mut publisher = Publisher::new(region, keeper.lend(), Vec::new(), 0);
    let mut cache = ArpCache::new(region.neighbours, &region.generations);
    let fib = Fib::default();
    let empty = Table::new(Capacity::of(&region.generations[0]));
    let mut table = empty.configured(&config, &NamedIds::default()).expect("room");
    let firsts: Vec<(ServiceId, BackendId)> = table.services().map(|(id, s)| (id, s.members[0].backend)).collect();
    let mut times: [Vec<Duration>; 4] = Default::default();
    let mut last = Image::default();
    for round in 1..=ROUNDS {
        let start = Instant::now();
        for (id, backend) in &firsts[..changed] {
            let factor = if round % 2 == 0 { 700 } else { 1300 };
            table.set_feedback(*id, &[(*backend, factor, false)]);
        }
        let filled = Instant::now();
        let interned = cache.keep(hops(&table, &fib), &region.generations);
        let image = Image::new(&table, &fib, &interned);
        let differs = image != last;
        let made = Instant::now();
        let now_ms = round * 1000;
        let idle = publisher.room(now_ms).expect("a free buffer");
        assert!(differs && image.covers(&idle));
        publisher.fill(&idle, now_ms, |idle| image.write(idle, now_ms, now_ms)).expect("room");
        publisher.advance(now_ms).expect("no keeper to wait for");
        let end = Instant::now();
        last = image;
        for (all, time) in times.iter_mut().zip([filled - start, made - filled, end - made, end - start]) {
            all.push(time);
        }
    }
    times
}

fn text(members: usize) -> String {
    let mut text = String::from("[switchers]\ncount = 1\n[[interface]]\nname = \"eth0\"\n");
    for service in 0..SERVICES {
        let (high, low) = (service / 250, service % 250 + 1);
        text += &format!("[[service]]\nname = \"s{service}\"\naddress = \"198.18.{high}.{low}:80\"\n");
        text += "protocol = \"tcp\"\nmode = \"nat\"\nslots = 1021\nagent_check = { port = 9777 }\n";
        for member in 0..members {
            let backend = (service + member) % BACKENDS;
            let (high, low) = (100 + backend / 250, backend % 250 + 1);
            text += &format!("[[service.backend]]\nname = \"b{backend}\"\naddress = \"198.19.{high}.{low}:8080\"\n");
        }
    }
    text
}

fn shown(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize].as_secs_f64() * 1000.0;
    format!("{:>6.3} / {:>6.3}", at(0.5), at(0.99))
}
