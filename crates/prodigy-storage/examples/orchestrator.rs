//! A small orchestrator: agents as tasks and as processes, each in its own git worktree; a live view; a coordinator
//! that is killed and resumes; a redrive. `docs/tutorial/orchestrator.md` explains it part by part.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::{collections::BTreeSet, path::Path, path::PathBuf, time::Duration};

use prodigy_storage::{AsyncJob, AsyncStorage, Cursor, DeadLetter, DlqItem, Failure, FollowOptions, ItemId};
use prodigy_storage::{Outcome, ReadOptions, RedriveOptions, SaveOptions, Select};
use serde::{Deserialize, Serialize};
use tokio::{process::Command, sync::Mutex, task::JoinSet};

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

const ITEMS: u32 = 12;

/// The event for a finished item. The log of these events is authoritative: the set of finished items is computed from
/// it.
#[derive(Serialize, Deserialize)]
struct Done {
    item: u32,
    commit: String,
}

async fn run(command: &mut Command, folder: &Path) -> Result<String> {
    let output = command.current_dir(folder).output().await?;
    match output.status.success() {
        true => Ok(String::from_utf8(output.stdout)?.trim().to_owned()),
        false => Err(format!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)).into()),
    }
}

/// Runs a git command to its end, also if the caller is cancelled; one at a time, since git fails if it finds a
/// worktree that another command has half made.
async fn git(folder: &Path, line: &str) -> Result<String> {
    static TURN: Mutex<()> = Mutex::const_new(());
    let (mut command, folder) = (Command::new("git"), folder.to_owned());
    command.args(["-c", "user.name=agent", "-c", "user.email=agent@example.com"]);
    command.args(line.split(' '));
    let ended = tokio::spawn(async move {
        let _turn = TURN.lock().await;
        run(&mut command, &folder).await
    });
    ended.await?.map_err(|e| format!("git {line}: {e}").into())
}

/// The work of an agent: a commit in its worktree.
async fn work(worktree: &Path, item: u32) -> Result<String> {
    std::fs::write(worktree.join(format!("item-{item}")), "done\n")?;
    git(worktree, "add .").await?;
    git(worktree, "commit --quiet --message done").await?;
    git(worktree, "rev-parse HEAD").await
}

/// Works on an item in a new worktree (in a task if its number is even, in a process if it is odd), and stores the
/// result. `which` is `first` or `again`.
async fn attempt(job: AsyncJob, project: PathBuf, item: u32, which: &str) -> Result {
    let worktree = format!("../worktree-{item}");
    let remove = format!("worktree remove --force --force {worktree}");
    // A killed agent or coordinator may have left the worktree.
    let _ = git(&project, &remove).await;
    let add = format!("worktree add --force --quiet --detach {worktree}");
    git(&project, &add).await?;
    let (folder, mut agent) = (project.join(&worktree), Command::new(std::env::current_exe()?));
    let commit = match item % 2 {
        0 => work(&folder, item).await?,
        _ => run(agent.args([&item.to_string(), which]).kill_on_drop(true), &folder).await?,
    };
    job.events().append(&Done { item, commit }).await?;
    git(&project, &remove).await.map(drop)
}

/// The live view: prints each event as it comes, and saves the state together with its cursor.
async fn watch(job: AsyncJob, mut done: BTreeSet<u32>, from: Cursor) -> Result<BTreeSet<u32>> {
    let options = FollowOptions::new().from(from).until_finished();
    let mut events = job.events().follow_with::<Done>(options).await?;
    while let Some(event) = events.next().await {
        let Done { item, commit } = event?.event.event;
        done.insert(item);
        println!("item {item} is done ({commit}): {} of {ITEMS}", done.len());
        let position = SaveOptions::at(events.cursor());
        job.checkpoints().save_map(&done, position).await?;
    }
    Ok(done)
}

/// Works on the remaining items, three at once; then on those that failed, until none can come back; then finishes
/// the job.
async fn drive(job: AsyncJob, project: PathBuf, done: BTreeSet<u32>) -> Result {
    let (mut agents, mut left) = (JoinSet::new(), (0..ITEMS).filter(|item| !done.contains(item)));
    loop {
        for item in left.by_ref().take(3 - agents.len()) {
            let (job, project) = (job.clone(), project.clone());
            agents.spawn(async move {
                let (dlq, id) = (job.dlq(), ItemId::new(format!("item-{item}"))?);
                // An item that an earlier coordinator gave up is left to the redrive.
                if dlq.get(&id).await?.is_none()
                    && let Err(error) = attempt(job, project, item, "first").await
                {
                    let failure = Failure::new("agent", error.to_string());
                    dlq.push(&DeadLetter::new(id, item).failure(failure)).await?;
                }
                Result::Ok(())
            });
        }
        let Some(ended) = agents.join_next().await else {
            break;
        };
        ended??;
    }
    let (again, dlq) = (job.clone(), job.dlq());
    let work = async move |letter: &DlqItem| {
        let done = async { attempt(again.clone(), project.clone(), letter.data()?, "again").await };
        match done.await {
            Ok(()) => Outcome::Done,
            Err(error) => Outcome::failed(Failure::new("agent", error.to_string())),
        }
    };
    // The lease is extended while the work lasts. After a kill, the items in hand come back when it ends.
    let lease = Duration::from_secs(1);
    let options = RedriveOptions::new().lease(lease).max_attempts(Some(5));
    loop {
        let report = dlq.redrive(Select::eligible(), &options, work.clone()).await?;
        println!("redrive: {} done, {} failed again", report.done, report.failed);
        let queue = dlq.summary().await?;
        // Parked items wait for a person. Any other one can come back, so the job is not finished.
        if queue.items == queue.parked {
            return Ok(job.finish().await?);
        }
        tokio::time::sleep(lease / 4).await;
    }
}

/// Completes a job, from the point that the earlier coordinator had reached.
async fn coordinate(storage: AsyncStorage, project: PathBuf) -> Result<BTreeSet<u32>> {
    let job = storage.repo_at(&project).await?.job("tutorial")?;
    let lock = storage.lock(job.address().to_string()).await?;
    // From here on, no write of an earlier coordinator is accepted.
    let job = job.fenced(&lock).await?;
    let (mut done, mut read) = (BTreeSet::new(), ReadOptions::new());
    if let Some(saved) = job.checkpoints().latest_map::<BTreeSet<u32>>().await? {
        done = saved.data;
        read = ReadOptions::after(saved.cursor.ok_or("a checkpoint without a cursor")?);
    }
    let mut events = job.events().read_with::<Done>(read).await?;
    while let Some(event) = events.next().await {
        done.insert(event?.event.event.item);
    }
    println!("a coordinator begins: {} of {ITEMS} are done", done.len());
    let view = watch(job.clone(), done.clone(), events.cursor());
    let (done, ()) = tokio::try_join!(view, drive(job, project, done))?;
    lock.release().await?;
    Ok(done)
}

#[tokio::main]
async fn main() -> Result {
    // Run with two arguments, it is an agent. That of item 5 panics at its first attempt.
    if let [_, item, which] = &*std::env::args().collect::<Vec<_>>() {
        assert!(item != "5" || which == "again", "panics as planned");
        println!("{}", work(Path::new("."), item.parse()?).await?);
        return Ok(());
    }
    // A folder that stays: a run that was killed is continued by the next one.
    let home = std::env::home_dir().ok_or("there is no home folder")?;
    let project = home.join("prodigy-tutorial/shop");
    git(&home, "init --quiet prodigy-tutorial/shop").await?;
    git(&project, "commit --quiet --allow-empty --message begin").await?;

    let storage = AsyncStorage::open().await?;
    let job = storage.repo_at(&project).await?.job("tutorial")?;
    let first = tokio::spawn(coordinate(storage.clone(), project.clone()));
    while !first.is_finished() && job.events().count(ReadOptions::new()).await?.events < 4 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    first.abort();
    match first.await {
        Err(error) if error.is_cancelled() => println!("the coordinator was killed"),
        ended => drop(ended??),
    }
    let done = coordinate(storage, project).await?;
    assert!(done.into_iter().eq(0..ITEMS), "each item is done");
    assert_eq!(job.dlq().summary().await?.items, 0, "no dead letter is left");
    Ok(())
}
