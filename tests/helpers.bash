# Common to all bats files: `load ../helpers` (or where it is from there).
# Every test then starts in an empty folder of its own, which is removed.
# shellcheck shell=bash

bats_require_minimum_version 1.5.0
: "${QIMG:?run the tests by make check}" "${QIMG_SRC:?}"

cd "$BATS_TEST_TMPDIR" || exit 1

qimg() {
  "$QIMG" "$@"
}

export QIMG_FAULT_LOG=$BATS_TEST_TMPDIR.fault

# fault_fired: has the call that QIMG_FAULT names been made since the last
# time? A command may succeed although it failed: it was a hint.
fault_fired() {
  rm "$QIMG_FAULT_LOG" 2>/dev/null
}

# stride N: of many like cases every Nth is tried, fewer under sanitizers, which
# look for other things, and all in a long run (make check-long). The first one
# is $first; QIMG_SEED chooses it, else the number of the test.
stride() {
  step=$1
  [ -z "$QIMG_SAN" ] || step=$((3 * step))
  [ -z "$QIMG_LONG" ] || step=1
  first=$((1 + ${QIMG_SEED:-$BATS_TEST_NUMBER} % step))
}

# some WORD...: every second one, each on a line, as stride has it.
some() {
  local first step
  stride 2
  for (( ; first <= $#; first += step)); do echo "${!first}"; done
}

# rounds N: how many random cases are tried: N, fewer under sanitizers, more in a
# long run; or as QIMG_ROUNDS says.
rounds() {
  local n=$1
  [ -z "$QIMG_SAN" ] || n=$(((n + 2) / 3))
  [ -z "$QIMG_LONG" ] || n=$((10 * n))
  echo "${QIMG_ROUNDS:-$n}"
}

# run_apart COMMAND...: as bats' run does it; $output is stdout alone, $stderr
# the rest. Without most of the processes that run starts: they add up.
run_apart() {
  status=0
  ("$@") >"$BATS_TEST_TMPDIR.out" 2>"$BATS_TEST_TMPDIR.err" || status=$?
  slurp output "$BATS_TEST_TMPDIR.out"
  slurp stderr "$BATS_TEST_TMPDIR.err"
}

# slurp NAME FILE: the variable gets the text of the file, as $(<FILE) is.
slurp() {
  local text
  IFS= read -rd '' text <"$2" || true
  printf -v "$1" %s "${text%"${text##*[!$'\n']}"}"
}

# run_qimg ARG...: qimg as run_apart runs it.
run_qimg() {
  run_apart "$QIMG" "$@"
}

# expect_code N COMMAND...: run_apart, which fails with all that the command
# said when that does not exit with N. `qimg` is such a command.
expect_code() {
  local want=$1
  shift
  run_apart "$@"
  if [ "$status" != "$want" ]; then
    printf 'exit code %s, expected %s: %s\n' "$status" "$want" "$*"
    printf '%s\n' "--- stdout:" "$output" "--- stderr:" "$stderr"
    return 1
  fi
}

# each_fault COMMAND...: in copies of ./drive, one call after the other of those
# of the command that change something fails, or is where it gets killed. What
# is left `look WHAT` judges, a function of the test, in the copy, by $status
# and $stderr, too; not again what an earlier fault has left. In the end ./try
# is as a run without a fault leaves it.
#
# The calls are those of `stride`: every fourth one is where it gets killed, every
# eighth one fails. $faults: other ones, each KIND:ACTION. $sparse: fewer of what
# comes late have to do. There are no fewer calls than $least.
each_fault() {
  local fault first=1 step n=1 fired=1 sparse=$sparse
  local -A looked=()
  for fault in ${faults-change:EIO change:kill change:kill-after}; do
    case $fault in
    *:kill-after)
      # As killed before the next call, but for the last one.
      [ -z "$QIMG_SAN" ] || continue
      first=$fired step=1
      ;;
    *:kill) stride 4 ;;
    *) stride 8 ;;
    esac
    # One at least, as there are so many calls.
    [[ $fault == *:kill-after ]] || first=$((1 + (first - 1) % ${least-3}))
    [ $step -gt 1 ] || sparse=
    for ((n = first; n < 600; n += step + (sparse ? n / 8 : 0))); do
      cd "$BATS_TEST_TMPDIR" || return
      rm -rf try
      cp -a drive try
      cd try || return
      status=0
      QIMG_FAULT=${fault/:/:$n:} "$@" >/dev/null 2>"$BATS_TEST_TMPDIR.err" ||
        status=$?
      fault_fired || break
      fired=$n
      slurp stderr "$BATS_TEST_TMPDIR.err"
      echo "$* $fault $n: $status $stderr"
      # One message says why it failed; when it is done, warnings do.
      [[ $fault != *:EIO || $status == 0 ]] ||
        awk '/^qimg: warning:/ { w++; next } /^qimg: / { n++ }
          END { exit n != 1 && (n || !w) }' <<<"$stderr"
      seen "$status" || look "$* $fault $n"
    done
    echo "after $((n - 1)) calls it is done: $status $(<"$BATS_TEST_TMPDIR.err")"
    [ "$n" -gt "${least-3}" ]
    [ "$n" -lt 600 ]
  done
  [ ${#looked[@]} -gt 0 ]
  cd "$BATS_TEST_TMPDIR" || return
}

# seen WHAT: for `look`: have these files been here before, with that WHAT? What
# a command that is run again leaves is often the same: one judgement will do.
seen() {
  local files
  files=$1:$(
    shopt -s dotglob globstar
    sha256sum ./** 2>/dev/null || true
  )
  [ -z "${looked[$files]-}" ] || return 0
  looked[$files]=1
  return 1
}

# format_of FILE: what to tell qemu about it; only raw must not be guessed.
format_of() {
  local magic
  # Up to a null byte: a disk may start with many of them.
  IFS= read -rn3 -d '' magic <"$1" || true
  case $1:$magic in
  *.raw:*) echo raw ;;
  *:QFI) echo qcow2 ;;
  *) qemu-img info -U --output=json "$1" | jq -r .format ;;
  esac
}

# oracle_check IMG: qemu-img finds neither corruption nor leak.
oracle_check() {
  [ -z "$QIMG_SAN" ] || return 0
  qemu-img check -q -f "$(format_of "$1")" "$1"
}

# oracle_equal A B: qemu-img finds the same content in both.
oracle_equal() {
  [ -z "$QIMG_SAN" ] || return 0
  qemu-img compare -q -f "$(format_of "$1")" -F "$(format_of "$2")" "$1" "$2"
}

# mkpattern FILE SIZE SEED: SIZE bytes (K, M, G as usual) that depend on SEED
# alone, in runs of 4 KiB to 256 KiB of four kinds: a hole, zeroes that are
# written, bytes that pack well, bytes that do not.
mkpattern() {
  perl -e '
    use strict;
    my ($file, $size, $seed) = @ARGV;
    my %unit = (K => 10, M => 20, G => 30);
    $size =~ /^(\d+)([KMG]?)$/ or die "mkpattern: bad size $size\n";
    $size = $1 << ($unit{$2} || 0);
    srand $seed;
    my $noise = pack "L*", map { int rand 4294967296 } 1 .. 1 << 17;
    open my $out, ">:raw", $file or die "$file: $!\n";
    for (my $at = 0; $at < $size;) {
      my $len = 4096 << int rand 7;
      $len = $size - $at if $len > $size - $at;
      my $kind = int rand 5;
      my $data;
      if ($kind == 1) {
        $data = "\0" x $len;
      } elsif ($kind == 2) {
        my $word = sprintf "%08x.", rand 4294967296;
        $data = substr $word x ($len / length($word) + 1), 0, $len;
      } elsif ($kind > 2) {
        # No two runs alike: a slice of the noise, turned by a word.
        my $turn = pack("L", int rand 4294967296) x ($len / 4 + 1);
        $data = substr($noise, 4 * int(rand 65536), $len)
          ^ substr($turn, 0, $len);
      }
      if (defined $data) {
        seek $out, $at, 0;
        print $out $data or die "$file: $!\n";
      }
      $at += $len;
    }
    truncate $out, $size;
    close $out or die "$file: $!\n";
  ' "$@"
}

# hold_image IMG [FORMAT]: another process, a qemu-io, has the image open for
# writing when this returns. It ends with release_image, at the latest with
# the test, whose end closes its stdin.
hold_image() {
  local n
  rm -f hold.fifo
  mkfifo hold.fifo
  stdbuf -oL qemu-io -f "${2:-$(format_of "$1")}" "$1" <hold.fifo >hold.log \
    2>&1 3>&- &
  HOLD_PID=$!
  exec {HOLD_FD}>hold.fifo
  (trap '' PIPE && tell_holder length) 2>/dev/null || true
  for ((n = 0; n < 500; n++)); do
    # It answers when all of opening is done, marking bitmaps included.
    if grep -q 'qemu-io> [0-9]' hold.log; then return 0; fi
    kill -0 "$HOLD_PID" 2>/dev/null || break
    sleep 0.02
  done
  echo "hold_image: qemu-io does not hold $1:"
  cat hold.log
  return 1
}

# tell_holder COMMAND...: have the holder run a qemu-io command.
tell_holder() {
  echo "$*" >&"$HOLD_FD"
}

# release_image: the holder closes the image as it should.
release_image() {
  (trap '' PIPE && tell_holder quit) 2>/dev/null || true
  exec {HOLD_FD}>&-
  wait "$HOLD_PID" || true
}

# crash_holder: the holder ends without closing the image.
crash_holder() {
  kill -KILL "$HOLD_PID"
  exec {HOLD_FD}>&-
  wait "$HOLD_PID" || true
}

# create_luks ARG...: qemu-img create, of something encrypted. QEMU measures the
# processor for that, which fails now and then on a busy one.
create_luks() {
  local n
  for ((n = 0; n < 20; n++)); do
    if qemu-img create -q "$@" 2>luks.log; then
      rm luks.log
      return 0
    fi
    sleep 0.1
  done
  cat luks.log
  return 1
}

# make_luks IMG SIZE SECRET: an encrypted image.
make_luks() {
  create_luks -f qcow2 --object secret,id=s,data="$3" \
    -o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=50 "$1" "$2"
}
