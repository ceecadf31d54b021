//! What control says when it stops: whether packets still flow, which they don't after a complete stop.

use anyhow::{Result, ensure};
use nix::sys::signal::{Signal, kill};
use shunt_tests::lab::{Lab, Shape};
use shunt_tests::supervisor::pid_of;
use shunt_tests::wait::until;

const GOES_ON: &str = "stopping; 1 switcher(s) go on with the last configuration";
const STOPPED: &str = "stopping; no switcher is running";

pub fn stop() -> Result<()> {
    let mut lab = Lab::up("stop", Shape::default())?;
    kill(pid_of(lab.name(), "control")?, Signal::SIGTERM)?;
    until("control's words about the switcher", || Ok(lab.log()?.contains(GOES_ON).then_some(())))?;
    lab.await_running()?;
    lab.stop_shunt()?;
    let log = lab.log()?;
    ensure!(log.matches(GOES_ON).count() == 1 && log.matches(STOPPED).count() == 1, "after a complete stop: {log}");
    Ok(())
}
