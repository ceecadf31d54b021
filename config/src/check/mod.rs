//! Turns the parsed document into a [`Config`]: this file reads the top level, each sibling one kind of table, and
//! `relations` checks tables against each other. A failed check reports its problem and continues.

mod address;
mod feedback;
mod health;
mod host;
mod interface;
mod limits;
mod relations;
mod rules;
mod service;
mod switchers;

use toml::de::DeTable;

use crate::queues::Demand;
use crate::report::{Report, quoted};
use crate::section::Section;
use crate::types::{Config, Interface, Limits, Switchers, Timeouts};
use shunt_process::Instance;

/// The configuration in `document`, valid only if `report` stays empty.
pub(crate) fn resolve(report: &Report, document: &DeTable<'_>) -> Option<Config> {
    let mut root = Section::root(report, document);
    let instance = read_instance(&mut root);
    let user = read_user(&mut root);
    root.require("switchers", "a [switchers] table with cpus = [1]");
    let switchers = switchers::read(root.section("switchers"));
    root.require("interface", "an [[interface]] table with name = \"eth0\"");
    let interfaces = interface::read_all(&mut root, switchers.as_ref());
    let host = host::read(root.section("host"), &interfaces);
    let limits = limits::read(root.section("limits"));
    check_queues(report, switchers.as_ref(), &interfaces, &limits);
    let timeouts = limits::read_timeouts(root.section("timeouts"), Timeouts::default());
    let sections = root.sections("service");
    let drafts: Vec<_> = sections.into_iter().map(|section| service::read(section, report, timeouts)).collect();
    let feedback = feedback::read(&mut root, report, &drafts);
    root.finish();
    relations::check(report, &drafts, host.as_ref(), &limits);
    let services = drafts.into_iter().map(service::Draft::finish).collect::<Option<Vec<_>>>()?;
    let (source, switchers) = (report.source(), switchers?);
    Some(Config { source, instance, user, switchers, interfaces, host, limits, timeouts, feedback, services })
}

fn check_queues(report: &Report, switchers: Option<&Switchers>, interfaces: &[Interface], limits: &Limits) {
    let Some(switchers) = switchers else { return };
    let demand = Demand { switchers: switchers.cpus.count() as u32, interfaces, limits };
    demand.least_problems().into_iter().for_each(|(field, sentence)| report.refuse_field(field, sentence));
}

fn read_instance(root: &mut Section<'_>) -> Instance {
    let Some(name) = root.text("instance") else {
        return Instance::default();
    };
    name.value.parse().unwrap_or_else(|error| {
        root.refuse("instance", format!("{} {error}", quoted(name.value)));
        Instance::default()
    })
}

/// The account that switchers run as. Whether it exists is checked on the machine, not here.
fn read_user(root: &mut Section<'_>) -> String {
    const DEFAULT: &str = "nobody";
    let user = root.text("user").map_or(DEFAULT, |user| user.value);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if user.is_empty() || user.len() > 32 || user.starts_with('-') || !user.chars().all(allowed) {
        root.refuse("user", format!("{} is not an account name; write for example \"nobody\"", quoted(user)));
    } else if user == "root" {
        let sentence = "\"root\" would leave switchers every file of the machine; name an account without privileges";
        root.refuse("user", format!("{sentence}, for example \"nobody\""));
    }
    user.to_owned()
}
