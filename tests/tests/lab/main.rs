//! Laboratory tests: a running Shunt between clients and back-end servers in network namespaces, with `deploy/lab`. They
//! need root and the release build: `cargo test -p tests --test lab [-- WORD...]`.

mod adoption;
mod algorithms;
mod as_client;
mod backend_death;
mod bad_file;
mod bad_start;
mod bystander;
mod doctor;
mod drain;
mod far;
mod follow;
mod host;
mod icmp_errors;
mod interface;
mod matrix;
mod ordinary_sizes;
mod pool;
mod problems;
mod process_death;
mod reload;
mod stale;
mod stop;
mod take_over;
mod waiting;
mod wrong_port;

use shunt_tests::runner::{self, Test};
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut tests = matrix::tests();
    tests.extend(bystander::tests());
    tests.push(Test::new("reload", reload::reload));
    tests.push(Test::new("ordinary_sizes", ordinary_sizes::ordinary_sizes));
    tests.push(Test::new("drain", drain::drain));
    tests.push(Test::new("algorithms", algorithms::algorithms));
    tests.push(Test::new("backend_death", backend_death::backend_death));
    tests.extend(stale::tests());
    tests.extend(as_client::tests());
    tests.extend(process_death::tests());
    tests.extend(host::tests());
    tests.extend(icmp_errors::tests());
    tests.push(Test::new("bad_file", bad_file::bad_file));
    tests.push(Test::new("bad_start", bad_start::bad_start));
    tests.push(Test::new("doctor", doctor::doctor));
    tests.push(Test::new("problems", problems::problems));
    tests.push(Test::new("unfilled_checksums", problems::unfilled_checksums));
    tests.push(Test::new("stop", stop::stop));
    tests.push(Test::new("adoption", adoption::adoption));
    tests.push(Test::new("interface", interface::interface));
    tests.push(Test::new("take_over", take_over::take_over));
    tests.push(Test::new("waiting", waiting::waiting));
    tests.push(Test::new("waiting_without_interface", waiting::waiting_without_interface));
    tests.push(Test::new("pool", pool::pool));
    tests.push(Test::new("follow", follow::follow));
    tests.push(Test::new("wrong_port", wrong_port::wrong_port));
    runner::run(&tests)
}
