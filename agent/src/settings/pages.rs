//! A back-end's sources in the settings: pages, commands and pushed metrics.

use std::net::SocketAddr;
use std::time::Duration;

use shunt_config::document::{Field, Section, quoted};

use super::{Command, Metrics, Page, Prometheus};

/// The optional key `key`, an address and port. Resolving a name could take seconds.
pub(super) fn read_address(section: &mut Section<'_>, key: &'static str, example: &str) -> Option<Field<SocketAddr>> {
    let Field { value: text, place } = section.text(key)?;
    let address = text.parse().ok().filter(|address: &SocketAddr| address.port() != 0);
    if address.is_none() {
        let sentence = format!("{} is not an address and port; write for example {example:?}", quoted(text));
        section.refuse(key, sentence);
    }
    Some(Field { value: address?, place })
}

fn read_page(section: &mut Section<'_>, default_path: &'static str) -> Option<Page> {
    section.require("address", "address = \"127.0.0.1:8081\"");
    let address = read_address(section, "address", "127.0.0.1:8081");
    let path = section.text("path").map_or(default_path, |path| path.value);
    // Both are copied into the request: a line break would inject a header.
    let fits = |text: &str| text.len() <= 1024 && text.bytes().all(|byte| byte.is_ascii_graphic());
    if !path.starts_with('/') || !fits(path) {
        let sentence = "is not a path: it starts with '/' and has neither spaces nor letters beyond ASCII";
        section.refuse("path", format!("{} {sentence}; write for example {default_path:?}", quoted(path)));
    }
    let host = section.text("host").map(|host| host.value);
    if let Some(host) = host.filter(|host| host.is_empty() || !fits(host)) {
        section.refuse("host", format!("{} is not a host name; write for example \"localhost\"", quoted(host)));
    }
    let address = address?.value;
    let host = host.map_or_else(|| address.to_string(), str::to_owned);
    Some(Page { address, path: path.to_owned(), host })
}

/// `[backend.nginx]`.
pub(super) fn read_nginx(mut section: Section<'_>) -> Option<Page> {
    if !section.is_present() {
        return None;
    }
    let page = read_page(&mut section, "/stub_status");
    section.finish();
    page
}

/// `[backend.prometheus]`.
pub(super) fn read_prometheus(mut section: Section<'_>) -> Option<Prometheus> {
    if !section.is_present() {
        return None;
    }
    let page = read_page(&mut section, "/metrics");
    let metrics = read_metrics(&mut section, "http_request_duration_seconds");
    section.finish();
    Some(Prometheus { page: page?, metrics })
}

/// `[backend.statsd]`.
pub(super) fn read_statsd(mut section: Section<'_>) -> Option<Metrics> {
    if !section.is_present() {
        return None;
    }
    let metrics = read_metrics(&mut section, "app.request_time");
    section.finish();
    Some(metrics)
}

fn read_metrics(section: &mut Section<'_>, example: &str) -> Metrics {
    let metrics = Metrics {
        in_flight: read_metric(section, "in_flight"),
        requests: read_metric(section, "requests"),
        execution: read_metric(section, "execution"),
        workers: read_metric(section, "workers"),
    };
    if !["in_flight", "requests", "execution"].iter().any(|key| section.has(key)) {
        let sentence = "names nothing to read: write in_flight, requests or execution";
        section.refuse("execution", format!("{sentence}, for example execution = {example:?}"));
    }
    metrics
}

fn read_metric(section: &mut Section<'_>, key: &'static str) -> Option<String> {
    let name = section.text(key)?.value;
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_:.-".contains(&byte);
    if !(1..=128).contains(&name.len()) || !name.bytes().all(allowed) {
        let rule = "is not a metric's name: write 1 to 128 letters, digits, '_', ':', '.' and '-'";
        section.refuse(key, format!("{} {rule}, without labels", quoted(name)));
        return None;
    }
    Some(name.to_owned())
}

/// `[backend.command]`.
pub(super) fn read_command(mut section: Section<'_>) -> Option<Command> {
    if !section.is_present() {
        return None;
    }
    section.require("run", "run = \"/usr/local/bin/load\"");
    let run = section.text("run").map(|run| run.value);
    if let Some(run) = run.filter(|run| run.trim().is_empty() || run.contains('\0')) {
        section.refuse("run", format!("{} is not a command; write for example \"/usr/local/bin/load\"", quoted(run)));
    }
    let interval_ms = section.number_or("interval_ms", 50..=60_000, 1000);
    let timeout_ms = section.number_or("timeout_ms", 10..=60_000, interval_ms.min(1000));
    if timeout_ms > interval_ms {
        let sentence = format!("{timeout_ms} is more than interval_ms, {interval_ms}; it must end before the next");
        section.refuse("timeout_ms", format!("{sentence}: lower it, or raise interval_ms"));
    }
    section.finish();
    let milliseconds = |number: u32| Duration::from_millis(number.into());
    Some(Command { run: run?.to_owned(), interval: milliseconds(interval_ms), time_limit: milliseconds(timeout_ms) })
}
