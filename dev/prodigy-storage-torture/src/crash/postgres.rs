//! Sixteen processes use one database and are killed at random. Meanwhile the server is killed and sessions are
//! terminated.

mod ledger;
#[path = "../../../../crates/prodigy-storage-postgres/tests/it/server.rs"]
#[allow(
    clippy::unwrap_used,
    unreachable_pub,
    missing_debug_implementations,
    reason = "the server of the backend's tests"
)]
mod server;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use self::ledger::Ledger;
use self::server::Server;
use super::letters::{calls, check_calls};
use super::power::process::Process;
use super::section::{Lab, Tally};
use crate::tool::Tool;

/// The duration in the short and in the full form.
const TIMES: (Duration, Duration) = (Duration::from_secs(8), Duration::from_secs(120));
/// The number of processes that append events and increment checkpoints.
const AGENTS: usize = 10;
/// The number of processes that push, take and settle dead letters.
const HANDLERS: usize = 6;
/// The lifetime of a process, in milliseconds.
const LIFE: std::ops::Range<u64> = 300..3_000;
/// The pause between two attacks on the server, in milliseconds.
const BLOW: std::ops::Range<u64> = 100..500;
/// One in this number of attacks kills the server; the others terminate sessions.
const KILL: u32 = 3;

/// The programs of a run, the server's address, and the reports of the agents.
struct Scene<'a> {
    lab: Lab<'a>,
    tool: Tool,
    agent: std::path::PathBuf,
    handler: std::path::PathBuf,
    url: String,
    until: Instant,
    has_failed: AtomicBool,
    kills: AtomicU64,
    ledger: Mutex<Ledger>,
    calls: Mutex<Vec<super::letters::Call>>,
}

/// Runs all processes, then compares the stored data with the acknowledged calls.
pub(super) fn run(lab: &Lab<'_>) -> Result<Tally> {
    let mut tally = Tally::default();
    let Some(mut server) = Server::start() else {
        tally.skip("no PostgreSQL server is installed (apt install postgresql)");
        return Ok(tally);
    };
    let program = |name| lab.project.build("prodigy-storage-torture", name);
    let scene = Scene {
        lab: *lab,
        tool: Tool::new(lab.binary, lab.scratch)?,
        agent: program("torture-agent")?,
        handler: program("torture-letters")?,
        url: server.url(),
        until: Instant::now() + lab.time(TIMES.0, TIMES.1),
        has_failed: AtomicBool::new(false),
        kills: AtomicU64::new(0),
        ledger: Mutex::default(),
        calls: Mutex::default(),
    };
    // The first listing creates the tables, before several processes start at once.
    scene.stored()?;
    thread::scope(|scope| {
        let lives: Vec<_> = (0..AGENTS + HANDLERS)
            .map(|number| {
                let scene = &scene;
                scope.spawn(move || {
                    let lived = scene.live(number);
                    scene.has_failed.fetch_or(lived.is_err(), Ordering::Relaxed);
                    lived.with_context(|| format!("process {number}"))
                })
            })
            .collect();
        scene.strike(&mut server, &mut tally);
        lives
            .into_iter()
            .try_for_each(|life| life.join().unwrap_or_else(|_| Err(anyhow!("it panicked"))))
    })?;
    tally.add("processes at once", AGENTS + HANDLERS);
    tally.add("kills of a process", scene.kills.load(Ordering::Relaxed));
    let stored = scene.stored()?;
    let ledger = scene.ledger.lock().unwrap_or_else(PoisonError::into_inner);
    ledger.check(&stored, &mut tally)?;
    let calls = scene.calls.lock().unwrap_or_else(PoisonError::into_inner);
    check_calls(&calls, &stored.letters, &mut tally)?;
    Ok(tally)
}

impl Scene<'_> {
    fn is_open(&self) -> bool {
        !self.has_failed.load(Ordering::Relaxed) && Instant::now() < self.until
    }

    /// Starts one process after another under this number, and kills each at a random moment.
    fn live(&self, number: usize) -> Result<()> {
        let mut random = self.lab.random(&format!("process {number}"));
        let (program, role) = if number < AGENTS {
            (&self.agent, "work")
        } else {
            (&self.handler, "change")
        };
        for life in 0.. {
            if !self.is_open() {
                break;
            }
            let mut command = self.tool.command_of(program);
            let seed = random.u64(..).to_string();
            command.args([&self.url, &format!("p{number}-{life}"), &seed, role]);
            let mut process = Process::start(command, Vec::new(), true)?;
            process.wait_for(Duration::from_millis(random.u64(LIFE)))?;
            let ended = process.end()?;
            ensure!(
                ended.code.is_none(),
                "{}",
                ended.unexpected("a life until it is killed")
            );
            self.kills.fetch_add(1, Ordering::Relaxed);
            if number < AGENTS {
                self.ledger
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .note(&ended)?;
            } else {
                let made = calls(&ended)?;
                self.calls
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend(made);
            }
        }
        Ok(())
    }

    /// Kills the server and terminates its sessions until the time is up.
    fn strike(&self, server: &mut Server, tally: &mut Tally) {
        let mut random = self.lab.random("blows");
        for blow in 1.. {
            thread::sleep(Duration::from_millis(random.u64(BLOW)));
            if !self.is_open() {
                return;
            }
            if blow % KILL == 0 {
                server.kill_and_restart();
                tally.add("kills of the server", 1_u32);
            } else {
                let terminated = server.psql(
                    "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                     where application_name = 'prodigy-storage' and random() < 0.5",
                );
                tally.add("sessions terminated", terminated.trim().parse().unwrap_or(0_u64));
            }
        }
    }

    /// The contents of the store, as an agent lists them.
    fn stored(&self) -> Result<ledger::Stored> {
        let mut command = self.tool.command_of(&self.agent);
        command.args([self.url.as_str(), "the end", "0", "list"]);
        let answer = crate::tool::finish(command, b"")?.expect_code(0)?;
        ledger::Stored::parse(answer.lines())
    }
}
