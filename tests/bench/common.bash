# Common to the measurements, which source it: where things are, a folder with
# enough room, how to write to a drive. read_options sets json where there is to
# be one JSON document instead of the table.
# shellcheck shell=bash
set -eu -o pipefail
export LC_ALL=C

src=${QIMG_SRC:-$(cd "$(dirname "$0")/../.." && pwd)}
QIMG=${QIMG:-$src/build/qimg}
json=
work=

stop() {
  echo "${0##*/}: $*" >&2
  exit "${code:-1}"
}

clean_up() {
  cd / && rm -rf "$work"
}

# read_options ARG...: there is but one.
# shellcheck disable=SC2034 # the caller looks at it
read_options() {
  while [ $# -gt 0 ]; do
    case $1 in
    --json) json=1 ;;
    *) code=2 stop "usage: $0 [--json]" ;;
    esac
    shift
  done
}

# make_folder MIB: go to a folder of our own with so much room.
make_folder() {
  local dir free need_mib=$1
  for dir in ${TMPDIR:+"$TMPDIR"} /tmp /var/tmp "$src/build"; do
    free=$(df -Pm "$dir" 2>/dev/null | awk 'NR == 2 { print $4 }')
    if [ -w "$dir" ] && [ "${free:-0}" -ge "$need_mib" ]; then
      work=$(mktemp -d "$dir/qimg-bench.XXXXXX")
      trap clean_up EXIT
      trap 'exit 130' INT TERM
      cd "$work"
      return
    fi
  done
  code=2 stop "no folder with $need_mib MiB of room; choose one with TMPDIR=DIR"
}

human() {
  numfmt --to=iec-i --suffix=B --round=nearest --format=%.1f "$1"
}

# since CLOCK: seconds since $EPOCHREALTIME was that.
since() {
  awk -v a="$1" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.3f", b - a }'
}

# qemu_io [IMAGE]: runs the commands on stdin, and fails where one did.
qemu_io() {
  qemu-io ${1:+-f qcow2 "$1"} >qemu-io.log 2>&1 || stop "qemu-io failed"
  if grep -iE 'error|fail|invalid' qemu-io.log; then stop "qemu-io failed"; fi
}
