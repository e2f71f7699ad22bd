#!/bin/sh
# The tool with nothing of the real environment, and a home in the folder of the transcript.
exec env -i PATH="$PATH" HOME="$PWD/home" PRODIGY_HOME="$PWD/home/.prodigy" "$TOOL" "$@"
