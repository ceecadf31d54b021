//! `[service.health]`: how the back-ends of a service are checked.

use crate::report::quoted;
use crate::section::Section;
use crate::types::{Health, Mode, Probe, Protocol};

/// Maximum interval and timeout: an hour.
const LONGEST_MS: u32 = 3_600_000;

/// Keys that only `http` uses.
const HTTP_KEYS: &[&str] = &["path", "host", "status"];

/// Keys that `tcp` and `http` use.
const COMMON_KEYS: &[&str] = &["port", "as_client", "interval_ms", "timeout_ms", "rise", "fall"];

/// Reads `kind`, which determines the other keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Http,
    None,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Http => "http",
            Self::None => "none",
        }
    }
}

/// Reads the table. By default a TCP service is checked by connecting, a UDP service not at all. With `dsr`, checks take a
/// client's path by default: otherwise a back-end without the service's address would pass them.
pub(super) fn read(mut section: Section<'_>, protocol: Option<Protocol>, mode: Option<Mode>) -> Option<Health> {
    let kinds = [Kind::Tcp, Kind::Http, Kind::None].map(|kind| (kind.word(), kind));
    let said = section.word("kind", &kinds).map(|kind| kind.value);
    let unsaid = if protocol == Some(Protocol::Udp) { Kind::None } else { Kind::Tcp };
    let kind = said.unwrap_or(unsaid);
    let http = read_http(&mut section);
    let port = section.number("port", 1..=65_535).and_then(|port| u16::try_from(port.value).ok());
    let health = Health {
        probe: match kind {
            Kind::Http => http,
            Kind::Tcp | Kind::None => Probe::Tcp,
        },
        port,
        as_client: section.truth_or("as_client", mode.is_some_and(Mode::keeps_destination)),
        interval_ms: section.number_or("interval_ms", 10..=LONGEST_MS, 1000),
        timeout_ms: section.number_or("timeout_ms", 1..=LONGEST_MS, 500),
        rise: section.number_or("rise", 1..=100, 2),
        fall: section.number_or("fall", 1..=100, 3),
    };
    // An invalid kind is already reported; which keys belong to it is unknown.
    if said.is_some() || !section.has("kind") {
        refuse_keys_of_others(&section, kind);
    }
    if kind != Kind::None && health.timeout_ms > health.interval_ms {
        let Health { timeout_ms, interval_ms, .. } = health;
        let sentence = format!("{timeout_ms} is more than interval_ms, {interval_ms}; checks must end before the next");
        section.refuse("timeout_ms", format!("{sentence}: lower it, or raise interval_ms"));
    }
    section.finish();
    (kind != Kind::None).then_some(health)
}

/// Refuses keys that would silently have no effect.
fn refuse_keys_of_others(section: &Section<'_>, kind: Kind) {
    let (http_keys, other_keys) = match kind {
        Kind::Http => (&[][..], &[][..]),
        Kind::Tcp => (HTTP_KEYS, &[][..]),
        Kind::None => (HTTP_KEYS, COMMON_KEYS),
    };
    for (keys, other) in [(http_keys, Kind::Http), (other_keys, Kind::Tcp)] {
        for key in keys.iter().filter(|key| section.has(key)) {
            let (kind, other) = (kind.word(), other.word());
            let sentence = format!("does nothing where kind is {kind:?}");
            section.refuse(key, format!("{sentence}; remove it, or write kind = {other:?}"));
        }
    }
}

fn read_http(section: &mut Section<'_>) -> Probe {
    let path = section.text("path").map_or("/", |path| path.value);
    // Both are copied into the request: a line break would start another header.
    let fits = |text: &str| text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !path.starts_with('/') || !fits(path) {
        let sentence = "is not a path: it starts with '/' and has neither spaces nor letters beyond ASCII";
        section.refuse("path", format!("{} {sentence}; write for example \"/\"", quoted(path)));
    }
    let host = section.text("host").map(|host| host.value);
    if let Some(host) = host.filter(|host| host.is_empty() || !fits(host)) {
        section.refuse("host", format!("{} is not a host name; write for example \"www.example\"", quoted(host)));
    }
    let (status_first, status_last) = read_status(section);
    Probe::Http { path: path.to_owned(), host: host.map(str::to_owned), status_first, status_last }
}

fn read_status(section: &mut Section<'_>) -> (u16, u16) {
    const DEFAULT: (u16, u16) = (200, 399);
    let Some(status) = section.numbers("status", 100..=599) else {
        return DEFAULT;
    };
    let ends: Vec<u16> = status.value.iter().filter_map(|&end| u16::try_from(end).ok()).collect();
    match ends[..] {
        [first, last] if first <= last => (first, last),
        _ => {
            section
                .refuse("status", "is not a range; write the first and the last good status, for example [200, 399]");
            DEFAULT
        }
    }
}
