//! A supervisor that finds its predecessor's processes never stops them, even one that its predecessor did not write down.

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::supervisor::{Supervisor, pid_of};
use shunt_tests::traffic::http::get_many;
use shunt_tests::wait::until;
use std::fs::File;

pub fn adoption() -> Result<()> {
    let lab = Lab::up_patient("adopt", Shape::default())?;
    let [keeper, switcher, first] = ["keeper", "switcher.0", "supervisor"].map(|name| pid_of(lab.name(), name));
    let (keeper, switcher, first) = (keeper?, switcher?, first?);
    kill(first, Signal::SIGKILL)?;
    until("the supervisor's end", || Ok(kill(first, None).is_err().then_some(())))?;
    // As if it had been killed between starting the switcher and writing down which one it is.
    std::fs::remove_file(format!("/run/shunt/{}/starts/switcher.0", lab.name()))?;

    let log = File::options().append(true).open(lab.configuration_path().with_file_name("log").join("shunt"))?;
    let second = Supervisor::start(&lab.balancer(), &lab.configuration_path(), log)?;
    let checked = found(&lab, switcher).and_then(|()| {
        ensure!(pid_of(lab.name(), "keeper")? == keeper, "the keeper was started again");
        get_many(&lab.client(), WEB, 20)?;
        kill(switcher, Signal::SIGKILL)?;
        lab.await_running()
    });
    second.stop()?;
    checked
}

/// Locks and shared memory tell what the supervisor's own files don't.
fn found(lab: &Lab, switcher: nix::unistd::Pid) -> Result<()> {
    let line = format!("switcher.0 (pid {switcher}) runs already; watching it");
    until("the lost switcher to be watched", || Ok(lab.log()?.contains(&line).then_some(())))
}
