//! Notifies other processes of appends, and receives their notifications.
//!
//! A notification is not part of the transaction of its append: a task sends it later, for each job at most once
//! in each [`PAUSE`]. To find out whether notifications arrive, a listener sends one to itself: behind a pooler in
//! transaction mode they are lost without an error. So callers that wait for events also poll.

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

/// A process sends at most one notification per job in this time.
const PAUSE: Duration = Duration::from_millis(10);
/// The longest time until the notification that a listener sends to itself has to arrive.
const PROOF: Duration = Duration::from_secs(1);
/// The pauses before a listener that failed is started again grow from the first of these to the second.
const AGAIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];
/// The interval at which a listener checks that its connection is alive.
const ALIVE: Duration = Duration::from_secs(1);
/// The longest wait for the answer to such a check.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

const LISTEN: &str = "listen for events";

/// The notifications that a handle sends and receives.
#[derive(Debug)]
pub(crate) struct Notifier {
    channel: String,
    waiters: Arc<Waiters>,
    /// Jobs for which a notification has to be sent.
    pending: Mutex<BTreeSet<String>>,
    /// Jobs whose notification is being sent. If the handle is dropped meanwhile, it is sent again.
    sent: Mutex<BTreeSet<String>>,
    announced: Notify,
    is_started: AtomicBool,
    /// True if the notification of the listener to itself arrived; `None` until that is known for the first time.
    works: Mutex<Option<bool>>,
    proved: Condvar,
    /// The payload of the notification that the listener sent to itself.
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

    /// Has other processes notified of an append to a job, within [`PAUSE`].
    pub(crate) fn announce(&self, job: &JobAddress) {
        self.pending.lock().insert(job.to_string());
        self.announced.notify_one();
    }

    /// The statement that sends all notifications that are pending or being sent; `None` without any.
    pub(crate) fn announcement(&self) -> Option<Sql> {
        let mut sent = self.sent.lock();
        sent.append(&mut self.pending.lock());
        let jobs: Vec<String> = sent.iter().cloned().collect();
        let text = "select pg_notify($1, job)::text from unnest($2::text[]) as j (job)";
        (!jobs.is_empty()).then(|| Sql::new(text).frequent().arg(self.channel.clone()).arg(jobs))
    }

    /// Sends notifications again and again, until the handle is dropped.
    pub(crate) fn send_always(self: &Arc<Self>, db: &Db) {
        let (notifier, pool) = (Arc::clone(self), Arc::clone(&db.pool));
        db.handle().spawn(async move {
            loop {
                notifier.announced.notified().await;
                if let Some(announcement) = notifier.announcement()
                    && let Err(error) = send(&pool, announcement).await
                {
                    // Callers that wait for events also poll, so a lost notification only delays them.
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

    /// Begins to listen for notifications, unless this was called before.
    pub(crate) fn listen(self: &Arc<Self>, db: &Db) {
        if self.is_started.swap(true, Ordering::SeqCst) {
            return;
        }
        let (notifier, pool) = (Arc::clone(self), Arc::clone(&db.pool));
        db.handle().spawn(async move {
            let [shortest, longest] = AGAIN;
            let mut pause = shortest;
            loop {
                if let Err(error) = notifier.hear(&pool).await {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "no notifications arrive: waits poll instead"
                    );
                }
                if notifier.set(false) {
                    // A follower of many jobs relies on notifications alone.
                    notifier.waiters.report_missed();
                    pause = shortest;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
        });
    }

    /// Waits until it is known whether notifications arrive, at most for [`PROOF`].
    pub(crate) fn await_proof(&self, deadline: Deadline) {
        let mut works = self.works.lock();
        let until = deadline
            .min(Deadline::after(PROOF))
            .instant()
            .unwrap_or_else(Instant::now);
        while works.is_none() && !self.proved.wait_until(&mut works, until).timed_out() {}
    }

    /// True while notifications of other processes arrive.
    pub(crate) fn is_heard(&self) -> bool {
        *self.works.lock() == Some(true)
    }

    /// Notes whether notifications arrive. Returns true if they did before.
    fn set(&self, works: bool) -> bool {
        let before = self.works.lock().replace(works);
        self.proved.notify_all();
        before == Some(true)
    }

    /// Listens for notifications, and finds out whether they arrive. Returns when the connection ends.
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
        loop {
            tokio::time::sleep(ALIVE).await;
            // A server that is gone without a word does not close the connection.
            let answered = tokio::time::timeout(SIGN_OF_LIFE, link.run("", LISTEN)).await;
            if !matches!(answered, Ok(Ok(()))) {
                return Ok(());
            }
        }
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
