//! Control killed while the configuration file on disk is bad: its successor goes on with health checks, drains and
//! reloads by the configuration accepted last, and says so.

use anyhow::{Context, Result, ensure};
use shunt_tests::configuration::Configuration;
use shunt_tests::lab::{Lab, Shape, WEB};
use shunt_tests::operator::Problem;
use shunt_tests::traffic::http::get_many;

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
    std::fs::remove_file(lab.configuration_path())?;
    lab.kill(&["control"])?;
    goes_on(&lab).context("without a file")?;

    lab.reload(&good.without_backend("b3")?)?;
    let problems = lab.operator().status()?.problems;
    ensure!(!problems.iter().any(is_about_the_file), "the good file is in force: {problems:?}");
    let answers = get_many(&lab.client(), WEB, 60)?;
    ensure!(answers.keys().eq(["b1", "b2"]), "with b3 removed: {answers:?}");
    lab.operator().await_balance(0)
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
