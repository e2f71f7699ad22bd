//! Tests of the tool as a library, with streams that the caller passes.

use std::io::{self, Write};

use prodigy_storage_cli::{Console, Exit, command, run};

/// A stream whose writes fail with this kind of error.
struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn run_into(output: impl Write, arguments: &[&str]) -> (Exit, String) {
    let mut errors = Vec::new();
    let console = Console::of_pipes(output, &mut errors);
    let exit = run(std::iter::once(&"prodigy-storage").chain(arguments), console);
    (exit, String::from_utf8(errors).unwrap())
}

#[test]
fn a_full_disk_behind_the_output_is_a_failure_and_a_closed_pipe_is_not() {
    for arguments in [
        &["--help"][..],
        &["repo", "identify", "/", "--base-dir", "/no/such/root"],
    ] {
        let (exit, said) = run_into(Failing(io::ErrorKind::StorageFull), arguments);
        assert_eq!(exit, Exit::Failed);
        assert!(said.contains("standard output"), "{said}");
        assert_eq!(
            run_into(Failing(io::ErrorKind::BrokenPipe), arguments),
            (Exit::Done, String::new())
        );
    }
}

#[test]
fn the_codes_are_those_that_scripts_rely_on() {
    let all = [
        Exit::Done,
        Exit::Failed,
        Exit::Usage,
        Exit::Locked,
        Exit::Missing,
        Exit::Damaged,
        Exit::Command(9),
    ];
    assert_eq!(all.map(Exit::code), [0, 1, 2, 3, 4, 5, 9]);
}

#[test]
fn the_table_has_the_commands_and_no_others() {
    let mut found = Vec::new();
    for group in command().get_subcommands() {
        let commands: Vec<&str> = group
            .get_subcommands()
            .map(|command| command.get_name())
            .collect();
        found.push(
            format!("{} {}", group.get_name(), commands.join("|"))
                .trim()
                .to_owned(),
        );
    }
    assert_eq!(
        found,
        [
            "status",
            "job list|show|finish|delete",
            "events append|cat|end|follow|tail|search|stats",
            "checkpoint save|show|list|verify|diff|delete|prune",
            "document list|show|put|delete",
            "dlq analyze|list|show|edit|redrive|park|unpark|take|renew|ack|release|remove|purge|push|export|import|compact",
            "worktree path|list|orphans",
            "lock run|list",
            "config show|check",
            "health",
            "doctor",
            "backup",
            "restore",
            #[cfg(feature = "postgres")]
            "schema show|migrate|renew",
            "export",
            "import",
            "migrate",
            "copy",
            "usage",
            "report",
            "clean",
            "repo list|identify|relink|register|unregister",
        ]
    );
}
