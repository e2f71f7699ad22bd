//! Examples for the help of commands. A test runs each of them as printed.

use clap::Command;

const EXAMPLES: [(&str, &str, &str); 29] = [
    (
        "events",
        "append",
        "Example:
  echo '{\"agent\":1,\"status\":\"done\"}' |
    prodigy-storage events append --job J --ack",
    ),
    (
        "events",
        "cat",
        "Examples: the failures of the last hour; payloads for another program
  prodigy-storage events cat --job J --since 1h --filter 'status~fail'
  prodigy-storage events cat --job J -o payload | jq -c .status",
    ),
    (
        "events",
        "end",
        "Example:
  prodigy-storage events end --job J",
    ),
    (
        "events",
        "follow",
        "Examples: what comes from now on; two jobs at once; all jobs of the repository
  prodigy-storage events follow --job J --from-now --for 1s
  prodigy-storage events follow --job J --job K --for 1s
  prodigy-storage events follow --all-jobs --for 1s",
    ),
    (
        "events",
        "stats",
        "Example:
  prodigy-storage events stats --job J --since 1h",
    ),
    (
        "checkpoint",
        "save",
        "Example:
  echo '{\"done\":1}' |
    prodigy-storage checkpoint save --job J --phase map",
    ),
    (
        "checkpoint",
        "show",
        "Example: the state that the job resumes from
  prodigy-storage checkpoint show --job J --payload | jq .",
    ),
    (
        "checkpoint",
        "list",
        "Example:
  prodigy-storage checkpoint list --job J --phase map",
    ),
    (
        "checkpoint",
        "verify",
        "Example:
  prodigy-storage checkpoint verify --job J",
    ),
    (
        "checkpoint",
        "diff",
        "Example: the names are those that the list prints
  prodigy-storage checkpoint diff --job J OLD.json NEW.json",
    ),
    (
        "checkpoint",
        "delete",
        "Example: the name is one that the list prints
  prodigy-storage checkpoint delete --job J setup-checkpoint.json",
    ),
    (
        "checkpoint",
        "prune",
        "Example: show what would go, and remove it
  prodigy-storage checkpoint prune --job J --keep 5 --dry-run
  prodigy-storage checkpoint prune --job J --keep 5",
    ),
    (
        "document",
        "put",
        "Example:
  echo '[\"build\",\"test\"]' |
    prodigy-storage document put --kind workflows --name nightly",
    ),
    (
        "document",
        "show",
        "Example:
  prodigy-storage document show --kind workflows --name nightly",
    ),
    (
        "document",
        "list",
        "Example:
  prodigy-storage document list --kind workflows",
    ),
    (
        "document",
        "delete",
        "Example:
  prodigy-storage document delete --kind workflows --name nightly",
    ),
    (
        "worktree",
        "path",
        "Example:
  prodigy-storage worktree path 7",
    ),
    (
        "worktree",
        "list",
        "Example:
  prodigy-storage worktree list",
    ),
    (
        "worktree",
        "orphans",
        "Example:
  prodigy-storage worktree orphans",
    ),
    (
        "lock",
        "run",
        "Example: wait ten seconds at most
  prodigy-storage lock run shop/J/resume --wait 10s -- ./work.sh",
    ),
    (
        "lock",
        "list",
        "Example: the locks that are held
  prodigy-storage lock list --json | jq -c 'select(.held)'",
    ),
    (
        "config",
        "show",
        "Example: each value, and the file or variable that sets it
  prodigy-storage config show --origin",
    ),
    (
        "config",
        "check",
        "Example:
  prodigy-storage config check",
    ),
    (
        "repo",
        "identify",
        "Example:
  prodigy-storage repo identify .",
    ),
    (
        "repo",
        "relink",
        "Example: the repository in this folder was cloned again
  prodigy-storage repo relink here .",
    ),
    (
        "repo",
        "register",
        "Example: another repository has the name of this folder
  prodigy-storage repo register --as here .",
    ),
    (
        "schema",
        "show",
        "Example:
  prodigy-storage schema show",
    ),
    (
        "schema",
        "migrate",
        "Example: with a role that may create tables
  PRODIGY_STORAGE_URL=postgresql://owner@db/jobs prodigy-storage schema migrate",
    ),
    (
        "schema",
        "renew",
        "Example: the database was restored to an earlier moment, and no process works on it
  prodigy-storage schema renew",
    ),
];

/// Examples of commands without subcommands.
const SINGLE: [(&str, &str); 20] = [
    (
        "events",
        "Examples: append; what came last; what went wrong; what comes
  echo '{\"agent\":1,\"status\":\"done\"}' |
    prodigy-storage events append --job J
  prodigy-storage events tail --job J -n 20
  prodigy-storage events search --all-jobs --since 1h '(?i)timeout'
  prodigy-storage events follow --job J --for 1s",
    ),
    (
        "job",
        "Examples: the jobs here; what one holds; delete it
  prodigy-storage job list
  prodigy-storage job show J
  prodigy-storage job delete J --yes",
    ),
    (
        "checkpoint",
        "Examples: save a state; the state that the job resumes from; are all of them whole
  echo '{\"done\":1}' |
    prodigy-storage checkpoint save --job J --phase map
  prodigy-storage checkpoint show --job J
  prodigy-storage checkpoint verify --job J",
    ),
    (
        "document",
        "Examples: store; list; read
  echo '{\"steps\":3}' |
    prodigy-storage document put --kind workflows --name nightly
  prodigy-storage document list
  prodigy-storage document show --kind workflows --name nightly",
    ),
    (
        "worktree",
        "Examples: the worktrees of the sessions; what a job left behind
  prodigy-storage worktree list
  prodigy-storage worktree orphans --job J",
    ),
    (
        "lock",
        "Examples: run a command under a lock; who holds which
  prodigy-storage lock run nightly -- true
  prodigy-storage lock list",
    ),
    (
        "config",
        "Examples: each setting and where it comes from; check a file
  prodigy-storage config show --origin
  prodigy-storage config check",
    ),
    (
        "repo",
        "Examples: all repositories; which name this one has
  prodigy-storage repo list
  prodigy-storage repo identify",
    ),
    (
        "schema",
        "Examples: which tables there are; make them, or those of a newer version
  prodigy-storage schema show
  prodigy-storage schema migrate",
    ),
    (
        "health",
        "Example:
  prodigy-storage health",
    ),
    (
        "doctor",
        "Examples: look; look at one job, and repair
  prodigy-storage doctor
  prodigy-storage doctor --repo here --job J --repair",
    ),
    (
        "backup",
        "Examples: everything; one job, to another machine
  prodigy-storage backup all.tar.zst
  prodigy-storage backup --job J - | cat > J.tar.zst",
    ),
    (
        "restore",
        "Examples: check an archive; restore it into an empty root, and one job of it
  prodigy-storage backup all.tar.zst
  prodigy-storage restore --check all.tar.zst
  prodigy-storage --base-dir new restore all.tar.zst
  prodigy-storage --base-dir old restore all.tar.zst --repo here --job J",
    ),
    (
        "export",
        "Examples: a job to a file, and into another store; its events alone
  prodigy-storage export --job J J.jsonl
  prodigy-storage --base-dir other import J.jsonl
  prodigy-storage export --job J | jq -c 'select(.kind == \"event\")'",
    ),
    (
        "import",
        "Examples: show what would be imported from a project's own folder; import it
  prodigy-storage import old/.prodigy --repo here --dry-run
  prodigy-storage import old/.prodigy --repo here",
    ),
    (
        "migrate",
        "Examples: show what would be stored of the project here; store it
  prodigy-storage migrate --dry-run
  prodigy-storage migrate",
    ),
    (
        "copy",
        "Examples: the plan of a move; move a job; let it take writes here again; copy a repository that stays here; into a database, without its password in the list of processes
  prodigy-storage copy --to ../other/store --repo here --job job-7
  prodigy-storage copy --to ../other/store --repo here --job job-7 --yes
  prodigy-storage copy --reopen --repo here --job job-7
  prodigy-storage copy --to ../other/store --repo shop --keep-source
  DB=postgresql://me:pw@db/jobs prodigy-storage copy --to-env DB --job job-7",
    ),
    (
        "clean",
        "Examples: show what would go; remove it; by the configured rules, from a timer; what was removed
  prodigy-storage clean --finished-jobs 30d --events 14d
  prodigy-storage clean --finished-jobs 30d --events 14d --yes
  prodigy-storage clean --auto
  prodigy-storage clean --log",
    ),
    (
        "report",
        "Examples: a job; all jobs of the repository here
  prodigy-storage report --job J --output J.html
  prodigy-storage report --output all.html",
    ),
    (
        "usage",
        "Examples: by area and repository; the largest jobs
  prodigy-storage usage
  prodigy-storage usage --jobs --top 5",
    ),
];

/// Adds the examples to the table of commands.
pub(crate) fn add(table: Command) -> Command {
    table.mut_subcommands(|group| {
        let name = group.get_name().to_owned();
        let single = SINGLE.iter().find(|(single, _)| *single == name);
        let group = match single {
            Some((_, text)) => group.after_help(*text),
            None => group,
        };
        group.mut_subcommands(|command| {
            let of = |(group, of, _): &&(&str, &str, &str)| *group == name && *of == command.get_name();
            match EXAMPLES.iter().find(of) {
                Some((_, _, text)) => command.after_help(*text),
                None => command,
            }
        })
    })
}
