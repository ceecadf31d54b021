//! Reloads under load: backends come, go and change weight, and a bad file changes nothing. Not one request fails, and no
//! long connection is lost.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::supervisor::pid_of;
use shunt_tests::traffic::http::get_many;
use shunt_tests::traffic::load::Load;
use shunt_tests::wait::until;

pub fn reload() -> Result<()> {
    let mut lab = Lab::up_patient("reload", Shape { backends: 3, ..Shape::default() })?;
    let whole = lab.configuration()?;
    let load = Load::start(&lab)?;

    let fewer = whole.without_backend("b3")?.without_backend("b3-echo")?.without_backend("b3-udp")?;
    lab.reload(&fewer)?;
    let answers = get_many(&lab.client(), WEB, 60)?;
    ensure!(answers.keys().eq(["b1", "b2"]), "with b3 removed: {answers:?}");

    lab.reload(&whole)?;
    let answers = get_many(&lab.client(), WEB, 90)?;
    ensure!(answers.keys().eq(["b1", "b2", "b3"]), "with b3 added again: {answers:?}");

    let weighted = whole.with_weight("b1", 8)?.with_weight("b1-echo", 8)?;
    lab.reload(&weighted)?;
    for name in ["b1", "b1-echo"] {
        let share = lab.operator().backend(name)?.services[0].slots_percent.context("a share")?;
        ensure!((78.0..82.0).contains(&share), "{name} has weight 8 of 10, and {share} % of the slots");
    }

    refuse_bad(&lab, &weighted)?;
    reload_on_signal(&lab, &whole)?;
    load.finish_unharmed(&lab)?;
    lab.operator().await_balance(0)?;
    lab.stop_shunt()?;
    lab.start_shunt()?;
    reload_on_signal(&lab, &whole).context("below nohup")
}

/// Refused with file and line; what was stays, whole.
fn refuse_bad(lab: &Lab, good: &Configuration) -> Result<()> {
    let (services, before) = (lab.operator().services()?, lab.operator().status()?);
    let bad = good.with("198.18.1.12:80", "198.18.1.12:eighty")?;
    let line = 1 + bad.0.lines().position(|line| line.contains("eighty")).context("the bad line")?;
    lab.configure(&bad)?;
    let output = lab.operator().try_order("reload")?;
    let text = String::from_utf8_lossy(&output.stderr);
    ensure!(!output.status.success(), "a bad configuration was taken over");
    let place = format!("{}:{line}:", lab.configuration_path().display());
    ensure!(text.contains(&place), "the refusal doesn't name {place} but says {text}");
    ensure!(lab.operator().services()? == services, "{services:?} became {:?}", lab.operator().services()?);
    let after = lab.operator().status()?;
    ensure!(after.epoch == before.epoch, "a refused reload was published");
    ensure!(after.reloads_refused == before.reloads_refused + 1, "{} reloads refused", after.reloads_refused);
    get_many(&lab.client(), WEB, 20).map(drop)
}

/// SIGHUP to the supervisor reads the file again.
fn reload_on_signal(lab: &Lab, good: &Configuration) -> Result<()> {
    let before = lab.operator().status()?.reloaded_ms;
    lab.configure(good)?;
    kill(pid_of(lab.name(), "supervisor")?, Signal::SIGHUP)?;
    until("a reload after SIGHUP", || Ok((lab.operator().status()?.reloaded_ms != before).then_some(())))
}
