//! Roles that work in a critical section under a named lock. Two processes at once in the section would break plain
//! files beside the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use prodigy_storage_backend::reference::Tokens;

use super::harness::{Harness, Outcome};
use crate::crash::section::Tally;

/// The lock that only commands take, not workers. Its critical section also creates a folder, which fails if another
/// process is in the section.
const DOOR: &str = "door";
/// The lock that commands and workers take.
pub(super) const GATE: &str = "gate";

/// The longest wait until a process notices that another one is in the section, too.
const PATIENCE: Duration = Duration::from_secs(60);

/// The critical section, as a shell script: reads a number, waits, and writes the next number. If two processes are
/// in it, one increment is lost. Only the tool that started the script is killed, never the script: the lock must
/// outlive the tool.
const SECTION: &str = r#"
cd "$1" || exit 90
if [ "$2" = door ] && ! mkdir inside 2>/dev/null; then echo two >>doubles; exit 91; fi
number=$(cat counter 2>/dev/null || echo 0)
echo "${PRODIGY_LOCK_FENCING%%@*}" >>tokens
if [ "$3" = go ]; then until [ -e go ]; do sleep 0.01; done; else sleep 0.00$3; fi
echo $((number + 1)) >counter.new && mv counter.new counter
if [ "$2" = door ]; then rmdir inside; fi
echo through
"#;

/// The number of passes through the section of each lock.
#[derive(Debug, Default)]
pub(super) struct LockLedger {
    locks: BTreeMap<&'static str, Passes>,
}

#[derive(Debug, Default)]
struct Passes {
    done: u64,
    unclear: u64,
}

impl LockLedger {
    /// Counts a pass through a section. If `surely` is false, the tool was killed, and the pass may not have
    /// happened.
    pub(super) fn passed(&mut self, lock: &'static str, surely: bool) {
        let passes = self.locks.entry(lock).or_default();
        if surely {
            passes.done += 1;
        } else {
            passes.unclear += 1;
        }
    }
}

/// Runs the critical section in commands under the locks [`DOOR`] and [`GATE`].
pub(super) fn locker(harness: &Harness<'_>, number: usize) -> Result<()> {
    let mut random = harness.random(number);
    while harness.is_open() {
        let lock = random.choice([DOOR, GATE]).unwrap_or(DOOR);
        let folder = harness.folder(lock)?;
        let name = format!("many/{lock}");
        let mut command = harness.tool().command([
            "lock", "run", &name, "--wait", "25s", "--", "sh", "-c", SECTION, "sh",
        ]);
        command.arg(folder).arg(lock).arg(random.u8(..9).to_string());
        let ended = harness.call(command, Vec::new(), &mut random)?;
        let outcome = harness.outcome(&ended)?;
        let through = ended.lines().any(|line| line == b"through");
        ensure!(
            through || outcome == Outcome::Unclear,
            "{}",
            ended.unexpected("somebody through")
        );
        if through {
            harness.locks.lock().passed(lock, true);
            harness.did(1);
        }
    }
    Ok(())
}

/// Verifies that the checks work: with locks disabled, two processes enter the section at once, which has to be
/// noticed.
pub(super) fn control(harness: &Harness<'_>) -> Result<()> {
    let folder = harness.folder("open")?;
    let start = || {
        let mut command =
            harness
                .tool()
                .command(["lock", "run", "many/open", "--", "sh", "-c", SECTION, "sh"]);
        command
            .arg(&folder)
            .arg(DOOR)
            .arg("go")
            .env("PRODIGY__STORAGE__ENABLE_LOCKING", "false");
        harness.begin(command, Vec::new(), false)
    };
    let mut processes = [start()?, start()?];
    // The first process stays in the section until the file `go` exists. Meanwhile the second one has to notice the
    // first.
    let begun = Instant::now();
    while !folder.join("doubles").exists() {
        ensure!(
            begun.elapsed() < PATIENCE,
            "two were inside without a lock, and it was not seen"
        );
        for process in &mut processes {
            process.wait_for(Duration::from_millis(5))?;
        }
    }
    std::fs::write(folder.join("go"), "")?;
    for process in processes {
        harness.finish(process, None)?;
    }
    Ok(())
}

/// Checks that no two processes were in a section at once: no increment is lost, and tokens ascend in the order of the
/// passes.
pub(super) fn check(harness: &Harness<'_>, tally: &mut Tally) -> Result<()> {
    let ledger = harness.locks.lock();
    let (mut passes, mut tokens) = (0, 0);
    for (lock, passed) in &ledger.locks {
        let folder = harness.folder(lock)?;
        ensure!(
            !folder.join("doubles").exists(),
            "two were inside `{lock}` at once"
        );
        let counted: u64 = number(&folder.join("counter"))?;
        let (least, most) = (passed.done, passed.done + passed.unclear);
        ensure!(
            (least..=most).contains(&counted),
            "the counter under `{lock}` is {counted}: {least} have raised it, {} may have",
            passed.unclear
        );
        passes += passed.done;
        tokens += rising(&folder.join("tokens")).with_context(|| format!("tokens of `{lock}`"))?;
    }
    ensure!(passes > 0, "nobody was through");
    tally.add("passes through a section under a lock, none lost", passes);
    tally.add("fencing tokens, each above the one before", tokens);
    tally.add("double holders", 0_u32);
    Ok(())
}

fn number(path: &Path) -> Result<u64> {
    let text = std::fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
    text.trim()
        .parse()
        .with_context(|| format!("no number: {text:?}"))
}

/// The number of lines in a file. Fails unless the number in each line is above the one before.
fn rising(path: &Path) -> Result<u64> {
    let (mut tokens, mut count) = (Tokens::default(), 0);
    for line in std::fs::read_to_string(path)?.lines() {
        tokens.hand_out(line.parse().with_context(|| format!("no token: {line:?}"))?)?;
        count += 1;
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::rising;

    #[test]
    fn a_token_that_does_not_rise_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens");
        std::fs::write(&path, "1\n2\n5\n").unwrap();
        assert_eq!(rising(&path).unwrap(), 3);
        std::fs::write(&path, "1\n2\n2\n").unwrap();
        assert!(rising(&path).is_err());
    }
}
