//! The program `prodigy-storage`.

use std::process::ExitCode;

use prodigy_storage_cli::{Console, run};

fn main() -> ExitCode {
    ExitCode::from(run(std::env::args_os(), Console::of_process()).code())
}
