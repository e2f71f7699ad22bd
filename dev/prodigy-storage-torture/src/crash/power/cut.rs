//! Takes the power from a file system: a system call that needs a helper program, since this one has no `unsafe`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::disk::quietly;

/// `FS_IOC_SHUTDOWN` with 2: the log is not flushed. EIO is the answer of a file system that is down already.
const C: &str = r#"
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/ioctl.h>

int main(int count, char **words) {
    uint32_t without_flush = 2;
    int folder = count == 2 ? open(words[1], O_RDONLY | O_DIRECTORY) : -1;
    int failed = folder < 0 || ioctl(folder, _IOR('X', 125, uint32_t), &without_flush) != 0;
    if (failed && errno != EIO) {
        perror("FS_IOC_SHUTDOWN");
        return 1;
    }
    return 0;
}
"#;

/// The same where there is no C compiler.
const PYTHON: &str = "
import errno, fcntl, os, struct, sys
try:
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), 0x8004587D, struct.pack('I', 2))
except OSError as error:
    if error.errno != errno.EIO:
        raise
";

/// A program that takes the power from the file system that it is given.
#[derive(Clone, Debug)]
pub(crate) struct Cutter {
    words: Vec<OsString>,
}

impl Cutter {
    /// Builds it in a folder.
    ///
    /// # Errors
    /// There is neither a C compiler nor Python.
    pub(crate) fn make(folder: &Path) -> Result<Self> {
        let words = match compiled(folder) {
            Ok(program) => vec![program.into_os_string()],
            Err(error) => {
                let python = quietly(Command::new("python3").args(["-c", "import fcntl"]));
                if python.is_err() {
                    bail!("neither a C compiler nor Python is there: {error:#}");
                }
                ["python3", "-c", PYTHON].map(OsString::from).to_vec()
            }
        };
        Ok(Self { words })
    }

    /// Takes it, now.
    pub(super) fn cut(&self, point: &Path) -> Result<()> {
        let (program, words) = self.words.split_first().context("no program")?;
        quietly(Command::new(program).args(words).arg(point))
    }
}

fn compiled(folder: &Path) -> Result<PathBuf> {
    let (source, program) = (folder.join("cut.c"), folder.join("cut"));
    std::fs::write(&source, C)?;
    quietly(Command::new("cc").arg("-o").arg(&program).arg(&source))?;
    Ok(program)
}
