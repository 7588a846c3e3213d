# What the fixtures of the tables are made with; QEMU makes them.
# shellcheck shell=bash

# shellcheck source=tests/formats/common.bash
. "$QIMG_SRC/tests/formats/common.bash"
