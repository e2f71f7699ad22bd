//! The program `prodigy-storage`.

use std::process::ExitCode;

use prodigy_storage_cli::{Console, complete, run};

fn main() -> ExitCode {
    complete();
    ExitCode::from(run(std::env::args_os(), Console::of_process()).code())
}
