//! Shuts a file system down by a system call. A helper program makes the call, since this program contains no `unsafe`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::disk::quietly;

/// `FS_IOC_SHUTDOWN` with the argument 2 does not flush the log. EIO means that the file system is down already.
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

/// The same program in Python, for machines without a C compiler.
const PYTHON: &str = "
import errno, fcntl, os, struct, sys
try:
    fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY | os.O_DIRECTORY), 0x8004587D, struct.pack('I', 2))
except OSError as error:
    if error.errno != errno.EIO:
        raise
";

/// The helper program, which shuts down a given file system.
#[derive(Clone, Debug)]
pub(crate) struct Cutter {
    words: Vec<OsString>,
}

impl Cutter {
    /// Builds the program in a folder.
    ///
    /// # Errors
    /// Fails if there is neither a C compiler nor Python.
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

    /// Shuts the file system down.
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
