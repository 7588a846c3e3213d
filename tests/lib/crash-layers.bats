#!/usr/bin/env bats
# What is left when a command that changes the layers of a drive is killed at
# each of its calls that change something, or when that call fails: the same
# promises as in crash.bats, and in the end the files of a run without it.

load ../helpers

# mklayers link|plain: drive/d of four layers, 1 MiB, changed in each since the
# start of its bitmap; want.raw is its content, start.raw that at the start.
# $2: KiB that each layer changes besides, $3: how many layers are on the first.
mklayers() {
  local n
  mkdir drive
  cd drive || return
  qemu-img create -q -f qcow2 -o cluster_size=16k one.qcow2 1M
  qemu-io -f qcow2 -c 'write -P 1 0 128k' one.qcow2 >/dev/null
  if [ "$1" = link ]; then ln -s one.qcow2 d; else mv one.qcow2 d; fi
  qimg bitmap add -q --drive d -g 16k b
  qemu-img convert -O raw d ../start.raw
  for ((n = 1; n <= ${3:-3}; n++)); do
    if [ "$1" = link ]; then
      qimg snapshot create -q --drive d --overlay $n.qcow2 t$n
    else
      qimg snapshot create -q --drive d t$n
    fi
    qemu-io -f qcow2 -c "write -P $n $((n * 128))k 16k" \
      -c "write -P 4 $((n * 16))k ${2:-16}k" d >/dev/null
  done
  qemu-img convert -O raw d ../want.raw
  cd ..
}

# What two runs have to agree on.
outcome() {
  LC_ALL=C ls -A
  qimg snapshot list --drive d --output json |
    jq -c '.layers[] | del(."actual-size")'
  dirty
}

dirty() {
  qimg bitmap show --drive d b --output json |
    jq -c '[.status, (.extents[] | [.offset, .length])]'
}

# after_fault WHAT: a chain that can be used. The images that were written:
# not damaged; the drive: content, and dirty where it differs from the start.
after_fault() {
  local f code
  for f in ./*; do
    [[ -f $f && ! -L $f && $f -nt ../stamp ]] || continue
    code=0
    qimg check -q "$f" 2>/dev/null || code=$?
    [ $code = 0 ] || [ $code = 3 ] || {
      echo "$1: check of $f: $code"
      return 1
    }
  done
  qemu-img convert -O raw d ../now.raw
  content_is_right || {
    echo "$1: content"
    return 1
  }
  dirty >../now.dirty
  superset || {
    echo "$1: dirty set: $(<../now.dirty)"
    return 1
  }
}

# shellcheck disable=SC2317 # after_fault runs it
content_is_right() {
  cmp ../now.raw ../want.raw
}

# Each 16 KiB of now.raw that is not as in start.raw is in now.dirty.
superset() {
  perl -e '
    my ($now, $start, $dirty) = map { local $/; open F, "<:raw", $_; <F> }
      "../now.raw", "../start.raw", "../now.dirty";
    my %is;
    while ($dirty =~ /\[(\d+),(\d+)\]/g) {
      for (my $o = $1; $o < $1 + $2; $o += 16384) { $is{$o >> 14} = 1 }
    }
    for (my $i = 0; $i < length($now) >> 14; $i++) {
      next if $is{$i};
      die "not dirty: cluster $i\n"
        if substr($now, $i << 14, 16384) ne substr($start, $i << 14, 16384);
    }'
}

# each_call COMMAND...: killed at each call, and each call fails; then run
# again. $rerun, if set, is how the second run may fail.
each_call() {
  command=("$QIMG" "$@")
  rm -rf try
  cp -a drive try
  touch stamp
  cd try || return
  "${command[@]}"
  outcome >../want.end
  cd ..
  each_fault "${command[@]}"
}

# shellcheck disable=SC2317 # each_fault runs it
look() {
  after_fault "$1"
  again "$1"
}

# again WHAT: has the same end as a run without a fault.
again() {
  if ! "${command[@]}" >/dev/null 2>../err; then
    grep -q "${rerun:-^$}" ../err || {
      echo "$1: again: $(<../err)"
      return 1
    }
  fi
  ! seen again || return 0
  outcome >../end
  diff ../want.end ../end || {
    echo "$1: another end"
    return 1
  }
}

@test "snapshot revert" {
  # shellcheck disable=SC2317 # look runs it
  content_is_right() {
    cmp -s ../now.raw ../want.raw || cmp ../now.raw ../old.raw
  }
  for kind in link plain; do
    rm -rf drive
    mklayers $kind
    qemu-img convert -O raw "$(find drive -name 2.qcow2 -o -name 'd@t3*')" \
      old.raw
    each_call snapshot revert -q --drive d t3
  done
}

@test "snapshot revert past a layer" {
  # shellcheck disable=SC2317 # look runs it
  content_is_right() {
    cmp -s ../now.raw ../want.raw || cmp ../now.raw ../old.raw
  }
  mklayers link
  qemu-img convert -O raw drive/1.qcow2 old.raw
  each_call snapshot revert -q --drive d t2
}

@test "snapshot delete, down in the middle" {
  rerun="no snapshot 't1'"
  mklayers link
  each_call snapshot delete -q --drive d t1
}

@test "snapshot delete, down, the head" {
  rerun="no snapshot 't3'"
  mklayers link
  each_call snapshot delete -q --drive d t3
  rm -rf drive
  mklayers plain
  each_call snapshot delete -q --drive d t3
}

@test "snapshot delete, up" {
  local tag
  mklayers link
  rm -rf drive
  for tag in t2 t3; do
    rerun="no snapshot '$tag'"
    rm -rf drive
    mklayers link 256
    each_call snapshot delete -q --drive d $tag
  done
}

@test "commit --into" {
  mklayers link 16 2
  each_call commit -q --drive d --into one.qcow2
  rm -rf drive
  mklayers plain 16 2
  rerun='is no layer of drive'
  each_call commit -q --drive d --into d@t1.qcow2
}

@test "stream" {
  mklayers link
  each_call stream -q --drive d
}

@test "stream --base, and of a range" {
  mklayers link
  each_call stream -q --drive d --base one.qcow2
  each_call stream -q --drive d --offset 0 --length 300k
}

@test "clone" {
  mklayers link
  each_call clone -q --drive d --tag t4 copy.qcow2
  # Of a head without data.
  (cd drive && qimg snapshot create -q --drive d t5)
  each_call clone -q --drive d copy.qcow2
  rm -rf drive
  mklayers plain
  each_call clone -q --drive d --tag t4 copy.qcow2
}

@test "rebase of the head of a drive" {
  mklayers link
  each_call rebase -q -f qcow2 -F qcow2 -b one.qcow2 3.qcow2
}

@test "resize of the head" {
  # shellcheck disable=SC2317 # look runs it
  content_is_right() {
    cmp -s -n 500000 ../now.raw ../want.raw
  }
  mklayers link
  each_call resize -q 3.qcow2 2M
  each_call resize -q --shrink 3.qcow2 512k
}

@test "bitmap disable and enable" {
  mklayers link
  each_call bitmap disable -q --drive d b
  (cd drive && qimg bitmap disable -q --drive d b)
  each_call bitmap enable -q --drive d b
}
