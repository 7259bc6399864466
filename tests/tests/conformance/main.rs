//! MQTT 3.1, 3.1.1 and 5.0, clause by clause, over real sockets: one cluster, and all cases against it at once.
//!
//! `CONFORMANCE_NODES` (1, or 3) says how many nodes it has. The cases are the same and so is what they expect: each
//! connection of a case comes to the node after that of the one before, so with three nodes a publisher, its subscriber
//! and whoever comes back are never on the same node.
//!
//! A case carries the clauses that it proves: `[MQTT-3.8.3-3]` is one of 5.0, `[MQTT-3.8.3-4/3.1.1]` one of 3.1.1.
//! `docs/conformance.md` is made of them.

mod auth;
mod broker;
mod bytes;
mod connect;
mod connect_fields;
mod delivery;
mod disconnect;
mod expiry;
mod flow;
mod identifiers;
mod keep_alive;
mod limits;
mod malformed;
mod options;
mod properties;
mod qos_in;
mod qos_out;
mod resend;
mod retained;
mod sessions;
mod shared;
mod strings;
mod subscribe;
mod topics;
mod unsubscribe;
mod wills;
mod wire;

use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use libtest_mimic::{Arguments, Trial};
use tokio::runtime::{Builder, Runtime};

use broker::{Case, Stage};

/// Cases that run at the same time, unless `--test-threads` says otherwise: most of them wait most of the time.
const AT_ONCE: usize = 8;

/// What all cases share; brought up by the first one, so that a list of them costs nothing.
struct Shared {
    runtime: Runtime,
    stage: OnceLock<Stage>,
}

impl Shared {
    fn stage(&self) -> &Stage {
        self.stage.get_or_init(|| self.runtime.block_on(Stage::start()))
    }
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads.get_or_insert(AT_ONCE);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let shared = Arc::new(Shared { runtime, stage: OnceLock::new() });
    let cases = cases().into_iter().enumerate();
    let trials = cases.map(|(number, case)| {
        let shared = shared.clone();
        Trial::test(case.name, move || {
            let broker = shared.stage().broker(number);
            shared.runtime.block_on((case.run)(broker));
            Ok(())
        })
    });
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if conclusion.has_failed()
        && let Some(stage) = shared.stage.get()
    {
        stage.print_logs();
    }
    conclusion.exit_code()
}

fn cases() -> Vec<Case> {
    [
        auth::cases(),
        connect::cases(),
        connect_fields::cases(),
        delivery::cases(),
        disconnect::cases(),
        expiry::cases(),
        flow::cases(),
        identifiers::cases(),
        keep_alive::cases(),
        limits::cases(),
        malformed::cases(),
        options::cases(),
        properties::cases(),
        qos_in::cases(),
        qos_out::cases(),
        resend::cases(),
        retained::cases(),
        sessions::cases(),
        shared::cases(),
        strings::cases(),
        subscribe::cases(),
        topics::cases(),
        unsubscribe::cases(),
        wills::cases(),
        wire::cases(),
    ]
    .concat()
}
