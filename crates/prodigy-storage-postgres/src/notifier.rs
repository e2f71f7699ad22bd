//! Notifications of appends between processes.
//!
//! Notifications are not part of the transactions of appends: a task sends them, at most one per job in each [`PAUSE`].
//! A listener sends a notification to itself to prove that notifications arrive: behind a pooler in transaction mode
//! they are lost without an error. So a wait also polls.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use prodigy_storage_backend::{Deadline, Durability, Result, Waiters};
use prodigy_storage_layout::{JobAddress, JobId, RepoName};
use tokio::sync::Notify;
use uuid::Uuid;

use crate::db::Db;
use crate::pool::{Link, Pool};
use crate::session::{Claim, Session};
use crate::sql::Sql;

/// A process announces a job at most once in this time.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest time that the notification of a listener to itself may take.
const PROOF: Duration = Duration::from_secs(1);
/// The pause before a listener that failed is started again.
const AGAIN: Duration = Duration::from_secs(30);
/// The interval at which a listener checks that its connection is alive.
const ALIVE: Duration = Duration::from_secs(1);

const LISTEN: &str = "listen for events";

/// The notifications that a handle sends and receives.
#[derive(Debug)]
pub(crate) struct Notifier {
    channel: String,
    waiters: Arc<Waiters>,
    /// Jobs to announce.
    pending: Mutex<BTreeSet<String>>,
    /// Jobs whose announcement is being sent. It is repeated if the handle is dropped meanwhile.
    sent: Mutex<BTreeSet<String>>,
    announced: Notify,
    is_started: AtomicBool,
    /// Whether the listener works; `None` before the first proof.
    works: Mutex<Option<bool>>,
    proved: Condvar,
    /// The notification that the listener sent to itself.
    proof: Mutex<String>,
    heard: Notify,
}

impl Notifier {
    pub(crate) fn new(store: u32, waiters: Arc<Waiters>) -> Self {
        Self {
            channel: format!("prodigy_{store:08x}"),
            waiters,
            pending: Mutex::default(),
            sent: Mutex::default(),
            announced: Notify::new(),
            is_started: AtomicBool::new(false),
            works: Mutex::new(None),
            proved: Condvar::new(),
            proof: Mutex::default(),
            heard: Notify::new(),
        }
    }

    /// Has a job announced to other processes, within [`PAUSE`].
    pub(crate) fn announce(&self, job: &JobAddress) {
        self.pending.lock().insert(job.to_string());
        self.announced.notify_one();
    }

    /// The statement that announces the pending jobs and those that are being announced; `None` without such jobs.
    pub(crate) fn announcement(&self) -> Option<Sql> {
        let mut sent = self.sent.lock();
        sent.append(&mut self.pending.lock());
        let jobs: Vec<String> = sent.iter().cloned().collect();
        let text = "select pg_notify($1, job)::text from unnest($2::text[]) as j (job)";
        (!jobs.is_empty()).then(|| Sql::new(text).frequent().arg(self.channel.clone()).arg(jobs))
    }

    /// Sends announcements until the handle is dropped.
    pub(crate) fn send_always(self: &Arc<Self>, db: &Db) {
        let (notifier, pool) = (Arc::clone(self), Arc::clone(&db.pool));
        db.handle().spawn(async move {
            loop {
                notifier.announced.notified().await;
                if let Some(announcement) = notifier.announcement()
                    && let Err(error) = send(&pool, announcement).await
                {
                    // Waiting callers poll as well, so a lost announcement only delays them.
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "an announcement was not sent"
                    );
                }
                notifier.sent.lock().clear();
                tokio::time::sleep(PAUSE).await;
            }
        });
    }

    /// Starts to listen, unless a listener was started before.
    pub(crate) fn listen(self: &Arc<Self>, db: &Db) {
        if self.is_started.swap(true, Ordering::SeqCst) {
            return;
        }
        let (notifier, pool) = (Arc::clone(self), Arc::clone(&db.pool));
        db.handle().spawn(async move {
            loop {
                if let Err(error) = notifier.hear(&pool).await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "no notifications arrive: waits poll instead"
                    );
                }
                notifier.set(false);
                tokio::time::sleep(AGAIN).await;
            }
        });
    }

    /// Waits for the first proof, at most as long as a proof may take.
    pub(crate) fn await_proof(&self, deadline: Deadline) {
        let mut works = self.works.lock();
        let until = deadline
            .min(Deadline::after(PROOF))
            .instant()
            .unwrap_or_else(Instant::now);
        while works.is_none() && !self.proved.wait_until(&mut works, until).timed_out() {}
    }

    /// True while appends of other processes are reported.
    pub(crate) fn is_heard(&self) -> bool {
        *self.works.lock() == Some(true)
    }

    fn set(&self, works: bool) {
        *self.works.lock() = Some(works);
        self.proved.notify_all();
    }

    /// Listens, proves that notifications arrive, and returns when the connection ends.
    async fn hear(self: &Arc<Self>, pool: &Arc<Pool>) -> Result<()> {
        let notifier = Arc::clone(self);
        let notified = move |_: &str, payload: &str| notifier.report(payload);
        let link = Link::open(pool.target(), Some(Arc::new(notified)), LISTEN).await?;
        link.run(&format!("listen \"{}\"", self.channel), LISTEN).await?;
        let proof = Uuid::new_v4().simple().to_string();
        self.proof.lock().clone_from(&proof);
        let to_oneself = Sql::new("select pg_notify($1, $2)::text")
            .arg(self.channel.clone())
            .arg(proof);
        send(pool, to_oneself).await?;
        if tokio::time::timeout(PROOF, self.heard.notified()).await.is_err() {
            tracing::debug!("no notification arrived: a pooler may be between");
            return Ok(());
        }
        self.set(true);
        while !link.client.is_closed() {
            tokio::time::sleep(ALIVE).await;
        }
        Ok(())
    }

    fn report(&self, payload: &str) {
        if *self.proof.lock() == payload {
            self.heard.notify_one();
            return;
        }
        let job = payload
            .split_once('/')
            .and_then(|(repo, job)| Some(JobAddress::new(RepoName::new(repo).ok()?, JobId::new(job).ok()?)));
        if let Some(job) = job {
            self.waiters.notify(&job);
        }
    }
}

async fn send(pool: &Arc<Pool>, statement: Sql) -> Result<()> {
    let mut session = Session::open(pool, None, Claim::default(), LISTEN, String::new()).await?;
    session
        .write(Durability::Relaxed, vec![statement])
        .await
        .map(drop)
}
