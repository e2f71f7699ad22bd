//! `cargo xtask pictures` draws the tool's output on terminals of two widths, for the pages.

use anyhow::Result;

use crate::project::Project;

/// The widths of the terminals, in columns.
#[cfg(feature = "pictures")]
const WIDTHS: [u32; 2] = [80, 200];

/// Fills a store, starts `status` on a terminal of each width, and writes its picture.
#[cfg(feature = "pictures")]
pub(crate) fn run(project: &Project) -> Result<()> {
    use anyhow::Context;

    crate::project::must(&mut project.cargo([
        "build",
        "--quiet",
        "--locked",
        "--package",
        "prodigy-storage-cli",
    ]))?;
    let folder = tempfile::Builder::new().prefix("prodigy-").tempdir()?;
    let store = Store {
        tool: project.built("prodigy-storage"),
        home: folder.path().to_owned(),
    };
    store.fill()?;
    let pictures = project.path("docs/pictures");
    std::fs::create_dir_all(&pictures)?;
    for width in WIDTHS {
        let shown = store.status(width)?;
        let path = pictures.join(format!("status-{width}.svg"));
        let svg = anstyle_svg::Term::new().render_svg(&shown);
        std::fs::write(&path, svg).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
    }
    Ok(())
}

/// A store in a folder of its own.
#[cfg(feature = "pictures")]
struct Store {
    tool: std::path::PathBuf,
    home: std::path::PathBuf,
}

#[cfg(feature = "pictures")]
impl Store {
    fn fill(&self) -> Result<()> {
        for (repo, job, events) in [
            ("shop", "mapreduce-7", 1200),
            ("shop", "mapreduce-8", 80),
            ("mill", "nightly", 7),
        ] {
            let lines: String = (0..events)
                .map(|agent| format!("{{\"type\":\"agent_done\",\"agent\":{agent}}}\n"))
                .collect();
            self.feed(
                &["events", "append", "--batch", "100", "--repo", repo, "--job", job],
                &lines,
            )?;
            self.feed(
                &[
                    "checkpoint",
                    "save",
                    "--phase",
                    "map",
                    "--repo",
                    repo,
                    "--job",
                    job,
                ],
                "{\"done\":7}",
            )?;
        }
        let items: String = (0..3)
            .map(|number| format!("{{\"item_id\":\"item-{number}\",\"item_data\":{number}}}\n"))
            .collect();
        self.feed(&["dlq", "push", "--repo", "shop", "--job", "mapreduce-7"], &items)
    }

    /// A command that runs a program in the store's home folder, with no other variables than `HOME`, `PATH` and `TERM`.
    fn command(&self, program: &std::path::Path) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command
            .env_clear()
            .env("HOME", &self.home)
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("TERM", "xterm")
            .current_dir(&self.home);
        command
    }

    fn feed(&self, words: &[&str], input: &str) -> Result<()> {
        use anyhow::{Context, bail};
        use std::io::Write;
        use std::process::Stdio;

        let mut tool = self
            .command(&self.tool)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        tool.stdin
            .take()
            .context("it has no input")?
            .write_all(input.as_bytes())?;
        match tool.wait()? {
            ended if ended.success() => Ok(()),
            ended => bail!("{words:?}: {ended}"),
        }
    }

    /// The output of `status` while a lock is held, with its styles.
    fn status(&self, columns: u32) -> Result<String> {
        use std::os::unix::fs::PermissionsExt;

        use anyhow::bail;

        // The lock shows the command that holds it, so the picture uses a short one.
        let coordinator = self.home.join("coordinator");
        let line = format!("stty columns {columns}; exec '{}' status", self.tool.display());
        let text = format!("#!/bin/sh\nexec script --quiet --return --command \"{line}\" /dev/null\n");
        std::fs::write(&coordinator, text)?;
        std::fs::set_permissions(&coordinator, std::fs::Permissions::from_mode(0o700))?;
        let mut command = self.command(&self.tool);
        command.args(["lock", "run", "shop/mapreduce-7/resume", "--", "./coordinator"]);
        let output = command.output()?;
        if !output.status.success() {
            bail!("{line}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?.replace('\r', ""))
    }
}

/// Runs this program again with the cargo feature `pictures`, which links the drawing code.
#[cfg(not(feature = "pictures"))]
pub(crate) fn run(project: &Project) -> Result<()> {
    crate::project::must(&mut project.again("pictures"))
}
