//! Runs the transcripts in `tests/cmd`: each command has to print the lines below it. `TRYCMD=overwrite` updates them.

use std::path::Path;

use trycmd::TestCases;
use trycmd::schema::Bin;

#[test]
fn each_command_of_a_transcript_prints_the_lines_below_it() {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cmd/tool.sh");
    TestCases::new()
        .env("TOOL", env!("CARGO_BIN_EXE_prodigy-storage"))
        .register_bin("prodigy-storage", Bin::Path(tool))
        .case("tests/cmd/*.trycmd");
}
