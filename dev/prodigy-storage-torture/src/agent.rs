//! An agent of `cargo xtask crash --only postgres`: one handle on a database, until it is killed.
//!
//! `torture-agent URL NAME SEED work` appends events, increments a checkpoint by compare-and-set, and increments other
//! checkpoints under a lock; it reports each acknowledgement as a JSON line. `torture-agent URL NAME 0 list` prints the
//! stored data.

mod opened;
mod told;

use anyhow::{Context, Result, bail};
use prodigy_storage::{
    Checkpoints, ErrorKind, Expected, Job, LockOptions, Repo, SaveOptions, Select, Storage, StorageError,
};
use serde_json::{Value, json};

use told::tell;

/// The number of locks that agents take. Each lock protects a checkpoint of its own, whose number an agent
/// increments.
const GATES: u8 = 12;

struct Agent {
    storage: Storage,
    repo: Repo,
    by: String,
    random: fastrand::Rng,
    next: u64,
}

fn main() -> Result<()> {
    let mut words = std::env::args().skip(1);
    let mut word = |what: &str| words.next().with_context(|| format!("no {what} is given"));
    let (store, by, seed, role) = (word("store")?, word("name")?, word("seed")?, word("role")?);
    let storage = loop {
        match opened::open(&store) {
            Ok(storage) => break storage,
            Err(error) => clear(Err::<(), _>(error)).map(drop)?,
        }
    };
    let agent = Agent {
        repo: storage.repo("agents")?,
        storage,
        by,
        random: fastrand::Rng::with_seed(seed.parse().context("the seed is no number")?),
        next: 0,
    };
    match role.as_str() {
        "work" => {
            opened::end_with_parent();
            agent.work()
        }
        "list" => agent.list(),
        other => bail!("no role is named `{other}`"),
    }
}

/// The value of a call; `None` after a transient error or an unknown outcome. Other errors are returned.
fn clear<T>(result: Result<T, StorageError>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_transient() => Ok(None),
        Err(error) => match error.kind() {
            ErrorKind::OutcomeUnknown | ErrorKind::Timeout | ErrorKind::LockUnavailable => Ok(None),
            _ => Err(error.into()),
        },
    }
}

fn number(data: &Value) -> Result<u64> {
    data.get("n").and_then(Value::as_u64).context("no number")
}

/// The number in the latest checkpoint, and the condition that this checkpoint is still the latest.
fn read(checkpoints: &Checkpoints) -> Result<Option<(u64, Expected)>> {
    Ok(match clear(checkpoints.latest_map::<Value>())? {
        None => None,
        Some(None) => Some((0, Expected::Absent)),
        Some(Some(found)) => Some((number(&found.data)?, Expected::Revision(found.revision))),
    })
}

impl Agent {
    fn work(mut self) -> Result<()> {
        let shared = self.repo.job("shared")?;
        loop {
            match self.random.u8(..4) {
                0 | 1 => self.append(&shared)?,
                2 => Self::count(&shared)?,
                _ => self.pass()?,
            }
        }
    }

    /// Appends events. Events of a failed append are not sent again.
    fn append(&mut self, job: &Job) -> Result<()> {
        let payloads: Vec<Value> = (0..self.random.u64(1..9))
            .map(|of| json!({"by": self.by, "n": self.next + of}))
            .collect();
        self.next += payloads.len() as u64;
        let ids = clear(job.events().append_batch(&payloads))?.unwrap_or_default();
        for (id, payload) in ids.iter().zip(payloads) {
            tell(&json!({"event": {"id": id.to_string(), "sent": payload}}))?;
        }
        Ok(())
    }

    /// Increments the number in the job's checkpoint by compare-and-set.
    fn count(job: &Job) -> Result<()> {
        let checkpoints = job.checkpoints();
        let Some((before, expected)) = read(&checkpoints)? else {
            return Ok(());
        };
        tell(&json!("counting"))?;
        let options = SaveOptions::new().expected_revision(expected);
        let saved = match checkpoints.save_map(&json!({"n": before + 1}), options) {
            Err(error) if error.kind() == ErrorKind::Conflict => return tell(&json!("refused")),
            saved => clear(saved)?,
        };
        match saved {
            Some(_) => tell(&json!({"counted": before + 1})),
            None => Ok(()),
        }
    }

    /// Takes a random lock, and increments the number in the lock's checkpoint without compare-and-set.
    fn pass(&mut self) -> Result<()> {
        let name = format!("gate-{}", self.random.u8(..GATES));
        let options = LockOptions::new(&self.by);
        let Some(lock) = clear(self.storage.lock_with(format!("agents/{name}/gate"), options))? else {
            return Ok(());
        };
        let token = lock.fencing()?.token();
        let Some(job) = clear(self.repo.job(&name)?.fenced(&lock))? else {
            return Ok(());
        };
        let checkpoints = job.checkpoints();
        if let Some((before, _)) = read(&checkpoints)?
            && clear(checkpoints.save_map(&json!({"n": before + 1}), SaveOptions::new()))?.is_some()
        {
            tell(&json!({"passed": {"gate": name, "token": token, "n": before + 1}}))?;
        }
        clear(lock.release()).map(drop)
    }

    fn list(self) -> Result<()> {
        let shared = self.repo.job("shared")?;
        for event in shared.events().read::<Value>()? {
            let event = event?;
            tell(&json!({"event": {"id": event.id.to_string(), "sent": event.event}}))?;
        }
        if let Some(found) = shared.checkpoints().latest_map::<Value>()? {
            tell(&json!({"counted": number(&found.data)?}))?;
        }
        for item in self
            .storage
            .repo("letters")?
            .job("change")?
            .dlq()
            .list(&Select::any())?
        {
            let item = item?;
            tell(&json!({"letter": {
                "id": item.id, "failures": item.failure_count, "eligible": item.eligible, "taken": item.lease.is_some(),
            }}))?;
        }
        Ok(())
    }
}
