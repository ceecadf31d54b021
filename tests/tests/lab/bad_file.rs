//! Processes killed while the configuration file on disk is bad: their successors go on by the configuration accepted
//! last, and say so. Control goes on with health checks, drains and reloads, the keeper with new switchers, and a new
//! supervisor with them all.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::operator::Problem;
use shunt_tests::supervisor::{Supervisor, pid_of, start_refused};
use shunt_tests::traffic::http::get_many;
use shunt_tests::wait::until;
use std::fs::File;

const VICTIM: [&str; 3] = ["b2", "b2-echo", "b2-udp"];

pub fn bad_file() -> Result<()> {
    let lab = Lab::up("badfile", Shape { backends: 3, ..Shape::default() })?;
    let good = lab.configuration()?;
    let half = Configuration(good.0[..good.0.len() / 2].to_owned());
    for bad in [half, Configuration(String::new()), good.with("mode = \"nat\"", "mode = \"gnat\"")?] {
        lab.configure(&bad)?;
        lab.kill(&["control"])?;
        goes_on(&lab).context("beside a bad file")?;
        ensure!(!lab.operator().try_order("reload")?.status.success(), "a bad file was taken over");
    }
    keeper_goes_on(&lab, &good).context("the keeper beside a bad file")?;
    std::fs::remove_file(lab.configuration_path())?;
    lab.kill(&["control"])?;
    goes_on(&lab).context("without a file")?;

    lab.reload(&good.without_backend("b3")?)?;
    let problems = lab.operator().status()?.problems;
    ensure!(!problems.iter().any(is_about_the_file), "the good file is in force: {problems:?}");
    let answers = get_many(&lab.client(), WEB, 60)?;
    ensure!(answers.keys().eq(["b1", "b2"]), "with b3 removed: {answers:?}");
    lab.operator().await_balance(0)?;
    adopted(&lab).context("a new supervisor beside a bad file")
}

/// Beside an empty file, one that is bad, and a good one that only a complete stop can bring into force.
fn keeper_goes_on(lab: &Lab, good: &Configuration) -> Result<()> {
    let other = good.with("[switchers]", "user = \"daemon\"\n[switchers]")?;
    for file in [&Configuration(String::new()), &good.with("mode = \"nat\"", "mode = \"gnat\"")?, &other] {
        lab.configure(file)?;
        lab.kill(&["keeper"])?;
        lab.kill(&["switcher.0"])?;
        get_many(&lab.client(), WEB, 20).context("the keeper, then a switcher")?;
        lab.kill(&["keeper", "switcher.0"])?;
        get_many(&lab.client(), WEB, 20).context("both together")?;
    }
    let said = "the configuration file is refused, going on with the one accepted last";
    ensure!(lab.log()?.contains(&format!("shunt_keeper] {said}")), "the keeper doesn't say that the file is bad");
    Ok(())
}

/// A supervisor takes running processes over whatever the file says, and starts none by a bad file.
fn adopted(lab: &Lab) -> Result<()> {
    let first = pid_of(lab.name(), "supervisor")?;
    lab.configure(&Configuration(String::new()))?;
    kill(first, Signal::SIGKILL)?;
    until("the supervisor's end", || Ok(kill(first, None).is_err().then_some(())))?;
    let log = File::options().append(true).open(lab.folder().join("log/shunt"))?;
    let second = Supervisor::start(&lab.balancer(), &lab.configuration_path(), log)?;
    let checked = until("the adoption", || Ok(lab.log()?.contains("runs already; watching it").then_some(())))
        .and_then(|()| lab.kill(&["keeper", "switcher.0"]))
        .and_then(|()| get_many(&lab.client(), WEB, 20).map(drop));
    second.stop()?;
    checked?;
    let cold = start_refused(&lab.balancer(), &lab.configuration_path())?;
    ensure!(cold.status.code() == Some(78), "a start by an empty file: {}", cold.status);
    Ok(())
}

fn is_about_the_file(problem: &Problem) -> bool {
    problem.code == "reload_refused"
}

fn goes_on(lab: &Lab) -> Result<()> {
    let operator = lab.operator();
    let problems = operator.status()?.problems;
    ensure!(problems.iter().any(is_about_the_file), "the status doesn't name the file: {problems:?}");
    lab.stop_backend(2)?;
    operator.await_state(&VICTIM, "down")?;
    lab.kill(&["control"])?;
    let health = operator.backend("b2")?.health.context("control says nothing of b2's health")?;
    ensure!(health.contains("cannot connect") && health.contains(", for "), "after control's restart: {health}");
    lab.start_backend(2)?;
    operator.await_state(&VICTIM, "up")?;
    operator.order("drain b1")?;
    let answers = get_many(&lab.client(), WEB, 30)?;
    ensure!(!answers.contains_key("b1"), "b1 is drained: {answers:?}");
    operator.order("enable b1").map(drop)
}
