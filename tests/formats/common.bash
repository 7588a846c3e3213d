# What tests of formats share; QEMU is the oracle.
# shellcheck shell=bash

# same_map IMG [FORMAT]: both programs see the same extents in the same places.
# Of nothing at all, QEMU says that it has one extent without a length.
same_map() {
  local format=${2:-qcow2}
  # Where a file has holes is certain only when it is on disk.
  sync "$1"
  qemu-img map -f "$format" --output=json "$1" |
    jq -c '.[] | select(.length > 0) | del(.compressed)' >map.qemu
  qimg map -f "$format" --output json "$1" | jq -c '.[]' >map.qimg
  diff map.qemu map.qimg
}

# same_content IMG [FORMAT]: what qimg reads is what QEMU reads.
same_content() {
  qimg convert --force -q -f "${2:-qcow2}" -O raw "$1" content.raw
  qemu-img compare -q -f "${2:-qcow2}" -F raw "$1" content.raw
  rm -f content.raw
}

# same_check IMG: the same counts, or the same kind of verdict.
same_check() {
  qemu-img check --output=json -f qcow2 "$1" 2>/dev/null |
    jq -S 'del(.filename)' >check.qemu || true
  qimg check --output json "$1" 2>/dev/null |
    jq -S 'del(.filename)' >check.qimg || true
  diff check.qemu check.qimg
}

# same IMG: content, map and check.
same() {
  same_content "$1" && same_map "$1" && same_check "$1"
}

# scribble IMG [QEMU-IO OPTION...]: write all kinds of things in the first
# 4 MiB and a sector at the end.
scribble() {
  local img=$1 size
  shift
  size=$(qemu-img info --output=json "$img" | jq '."virtual-size"')
  qemu-io -f qcow2 "$@" \
    -c 'write -P 1 64k 200k' -c 'write -P 2 1M 300k' \
    -c 'write -z 1100k 64k' -c 'discard 1200k 64k' \
    -c 'write -z -u 80k 5k' -c 'write -P 3 2000k 512' \
    -c 'write -P 4 2500k 1M' -c 'discard 2600k 256k' \
    -c "write -P 5 $((size - 512)) 512" "$img" >/dev/null
}

# poke FILE OFFSET FORMAT: write bytes, as printf makes them.
poke() {
  # shellcheck disable=SC2059 # it is a format
  printf "$3" | dd of="$1" bs=1 seek=$(($2)) conv=notrunc status=none
}

# be FILE OFFSET BYTES: the big endian number there.
be() {
  local value=0 byte
  for byte in $(od -An -v -t u1 -j $(($2)) -N "$3" "$1"); do
    value=$((value << 8 | byte))
  done
  echo "$value"
}

# poke_be FILE OFFSET BYTES VALUE
poke_be() {
  local i text=
  for ((i = ($3 - 1) * 8; i >= 0; i -= 8)); do
    text+=$(printf '\\x%02x' $(($4 >> i & 255)))
  done
  poke "$1" "$2" "$text"
}

# one_line CODE ARG...: qimg fails with that exit code and one line on stderr,
# within 10 seconds: it takes milliseconds, but the machine may be busy.
one_line() {
  local code=$1
  shift
  expect_code "$code" timeout -s KILL 10 "$QIMG" "$@"
  [ "$(wc -l <<<"$stderr")" = 1 ] || {
    printf 'not one line: %s\n%s\n' "$*" "$stderr"
    return 1
  }
  [[ $stderr == qimg:* ]]
}

# extension IMG TYPE: offset of the data of a header extension (TYPE in hex).
extension() {
  local at type len
  at=$(be "$1" 100 4)
  while true; do
    type=$(printf %08x "$(be "$1" "$at" 4)")
    len=$(be "$1" $((at + 4)) 4)
    if [ "$type" = "$2" ]; then
      echo $((at + 8))
      return
    fi
    [ "$type" != 00000000 ] || return 1
    at=$((at + 8 + (len + 7) / 8 * 8))
  done
}

# stretch_header IMG FIELDS [TYPE LENGTH]...: make the header longer by FIELDS
# bytes that nobody knows, and put extensions of TYPE (hex) in front of all
# others. The backing name moves.
stretch_header() {
  perl -e '
    my ($file, $fields, @x) = @ARGV;
    open my $f, "+<:raw", $file or die "$file: $!\n";
    read $f, my $h, 4096;
    my ($back, $len) = unpack "x8 Q> L>", $h;
    my $name = $back ? substr $h, $back, $len : "";
    my $size = unpack "x100 L>", $h;
    my $end = $size;
    while (my ($type, $n) = unpack "L>2", substr $h, $end, 8) {
      last unless $type;
      $end += 8 + ($n + 7) / 8 % 2**32 * 8;
    }
    my $new = join "", map { my ($t, $n) = @$_;
      pack "L>2 a*", hex $t, $n, "Z" x $n . "\0" x (-$n % 8) }
      map { [$x[2 * $_], $x[2 * $_ + 1]] } 0 .. @x / 2 - 1;
    my $rest = "F" x $fields . $new . substr($h, $size, $end - $size) .
      "\0" x 8;
    substr($h, 100, 4) = pack "L>", $size + $fields;
    substr($h, 8, 8) = pack "Q>", $size + length $rest if $back;
    seek $f, 0, 0;
    print $f substr($h, 0, $size), $rest, $name or die;
  ' "$@"
}
