#!/usr/bin/env bats
# qimg backup, every night for a year: three drives that are written to, get
# snapshots and lose bitmaps, runs that are killed or find the disk full, and a
# policy by which old points go. Each point that is listed restores to what the
# drives were when it was made.

load ../helpers
load common
load year

# want[ID/DRIVE] is the hash of the drive at that point, want[ID/] that of all
# drives of the point in a row; day[ID] counts from the year 1970 on.
declare -gA want=() day=()
ids=() # of the points that there are, oldest first
pinned='' # one of them, or none
night=0 seconds=0 now='' fault='' repo=repo
made=0 restored=0 kills=0 errors=0 fulls=0

setup() {
  local d
  export TZ=UTC
  clock=$(faketime 2027-01-01 printenv LD_PRELOAD)
  # Else the allocator of the sanitizers asks for the time before faketime can
  # tell it, and waits for itself.
  ASAN_OPTIONS=${ASAN_OPTIONS-}:allocator_release_to_os_interval_ms=-1
  export ASAN_OPTIONS
  qimg create -q -f qcow2 a.qcow2 1M
  qimg create -q -f qcow2 -o cluster_size=4k b0.qcow2 1536K
  ln -s b0.qcow2 b
  mkimage base.qcow2 512K 7
  qimg create -q -f qcow2 -b base.qcow2 -F qcow2 -o cluster_size=16k c.qcow2 1M
  for d in a b c; do
    qimg bitmap add -q --drive "${path[$d]}" nightly
    excuse["$d"]=1
  done
  # What the drives have to be, changed by other means than they are.
  mkdir model kept
  truncate -s 1M model/a.raw
  truncate -s 1536K model/b.raw
  qemu-img convert -O raw c.qcow2 model/c.raw
  cp -a model start
  # Where that may be done, the disk of the repository can get full.
  mkdir small
  ! mount -t tmpfs -o size=192M none small 2>/dev/null || repo=small/repo
}

teardown() {
  unmount_small
}

# odds N: one time in N.
odds() {
  ((RANDOM % $1 == 0))
}

# note WORD...: of what changes a drive; the log of the month before is log.1.
note() {
  echo "$night $*" >>log
}

rotate_log() {
  local n=1
  [ -e log ] || return 0
  while [ -e log.$n ]; do n=$((n + 1)); done
  for (( ; n > 1; n--)); do mv log.$((n - 1)) log.$n; done
  mv log log.1
}

# at_night ARG...: qimg by the clock of the night, with $fault.
at_night() {
  status=0
  {
    (
      [ -z "$fault" ] || export QIMG_FAULT=$fault
      export LD_PRELOAD=$clock FAKETIME=@$now FAKETIME_DONT_FAKE_MONOTONIC=1
      exec "$QIMG" "$@"
    ) >"$BATS_TEST_TMPDIR.out" 2>"$BATS_TEST_TMPDIR.err" 3>&- &
    wait $! || status=$?
  } 2>/dev/null
  # What the clock keeps of a process is not removed by one that was killed.
  [ $status != 137 ] || rm -f /dev/shm/*faketime_s[eh]m_$!
  slurp output "$BATS_TEST_TMPDIR.out"
  slurp stderr "$BATS_TEST_TMPDIR.err"
  echo "$night: ${fault:+$fault }qimg $*: $status $output $stderr"
}

# expect CODE ARG...: at_night, which exits with it.
expect() {
  at_night "${@:2}"
  [ "$status" = "$1" ]
}


# try CALLS ARG...: at_night. Now and then something happens at one of about so
# many calls that change something. $hit is what, or empty.
try() {
  local n=$((1 + RANDOM % $1))
  hit=
  ! odds 4 || case $((RANDOM % 8)) in
  [0-2]) fault=change:$n:kill ;;
  3) fault=change:$n:kill-after ;;
  4) fault=change:$n:EIO ;;
  5) fault=sync:$((1 + n / 4)):EIO ;;
  *) fault=write:$((1 + n / 2)):ENOSPC ;;
  esac
  at_night "${@:2}"
  if [ -n "$fault" ] && fault_fired; then hit=$fault; fi
  fault=
  case $hit in
  *:kill*)
    [ "$status" = 137 ]
    kills=$((kills + 1))
    ;;
  *:EIO) errors=$((errors + 1)) ;;
  *:ENOSPC) fulls=$((fulls + 1)) ;;
  *) [ "$status" != 137 ] ;;
  esac
}

# again ARG...: at_night, after the repair that a message may ask for.
again() {
  at_night "$@"
  if [[ $stderr =~ "repair it with 'qimg check -r all "(.*)"'" ]]; then
    expect 0 check -q -r all "${BASH_REMATCH[1]}"
    at_night "$@"
  fi
}

# alter ARG...: try a command that can be given again, and give it again.
alter() {
  try 40 "$@"
  [ -z "$hit" ] || again "$@"
  [ "$status" = 0 ]
}

# hash_models DRIVE...: hash[DRIVE] of each, and hash[/dev/stdin] of all in a row.
hash_models() {
  local line lines file
  mapfile -t lines < <(cd model && cat "${@/%/.raw}" |
    xxh128sum -q "${@/%/.raw}" /dev/stdin)
  for line in "${lines[@]}"; do
    file=${line#*  }
    hash[${file%.raw}]=${line%% *}
  done
}

# Which points are there? The new ones are of what the drives are now.
look_around() {
  local p id d drives
  local -A hash
  ids=()
  for p in "$repo"/points/0*; do
    [ -e "$p" ] || continue
    id=${p##*/}
    ids+=("$id")
    [ -z "${want[$id/]-}" ] || continue
    drives=("$p"/*.qcow2)
    drives=("${drives[@]##*/}")
    drives=("${drives[@]%.qcow2}")
    hash_models "${drives[@]}"
    for d in "${drives[@]}"; do want[$id/$d]=${hash[$d]}; done
    want[$id/]=${hash[/dev/stdin]}
    day[$id]=$((seconds / 86400))
    note - point "$id"
    made=$((made + 1))
  done
}

# are ID...: restored, these points are what the drives were; three of four
# by qimg, the others by qemu-img alone.
are() {
  local id d files=() line lines f
  rm -rf out
  mkdir -p "${@/#/out/}"
  for id; do
    restored=$((restored + 1))
    if ((restored % 4)) || [ -n "$QIMG_SAN" ]; then
      "$QIMG" restore -q --from $repo --at "$id" -O raw "out/$id"
      for d in a b c; do
        [ -z "${want[$id/$d]-}" ] || files+=("out/$id/$d.raw")
      done
    else
      qemu-img convert -f qcow2 -O raw $repo/points/"$id"/*.qcow2 "out/$id/raw"
      files+=("out/$id/raw")
    fi
  done
  mapfile -t lines < <(xxh128sum -q "${files[@]}")
  [ ${#lines[@]} = ${#files[@]} ]
  for line in "${lines[@]}"; do
    f=${line#*  out/}
    f=${f%raw}
    f=${f%.}
    [ "${line%% *}" = "${want[$f]}" ] || {
      echo "night $night: $f is not what the drive was"
      return 1
    }
  done
}

# All points that are listed.
all_are() {
  local line lines listed=()
  look_around
  [ ${#ids[@]} -gt 0 ] || return 0
  expect 0 backup list $repo
  [[ $output != *damaged* && $output != *broken* ]]
  mapfile -t lines <<<"$output"
  for line in "${lines[@]:1}"; do listed+=("${line%% *}"); done
  [ "${listed[*]}" = "${ids[*]}" ]
  are "${ids[@]}"
}

# newest_are DRIVE...: the last point of each is what it is now.
newest_are() {
  local d n before=$made
  local -A hash
  look_around
  if [ $made = $before ]; then
    # There was nothing to back up, if that is right.
    hash_models "$@"
    for d; do
      n=$((${#ids[@]} - 1))
      while [ -z "${want[${ids[n]}/$d]-}" ]; do n=$((n - 1)); done
      [ "${want[${ids[n]}/$d]}" = "${hash[$d]}" ] || {
        echo "night $night: drive $d is not in point ${ids[n]}"
        return 1
      }
    done
  fi
  ! odds 3 || are "${ids[-1]}"
}

# What is left when a fault has come between.
survived() {
  if odds 8; then
    all_are
  else
    look_around
    [ ${#ids[@]} = 0 ] || are "${ids[-1]}"
  fi
}

# Only little room is left on the disk of the repository.
fill_disk() {
  local free
  free=$(stat -f -c '%a*%S' small)
  fallocate -l $((free - RANDOM % 200 * 1024)) small/other
}

# The backup of a night. When it could not be made, it is made again at once, or
# in the next night.
back_up() {
  local args=(backup --auto -q --bitmap nightly --to "$repo")
  local drives=(a b c) d excused='' filled=''
  ! odds 6 || unset "drives[RANDOM % 3]"
  ! odds 4 || args+=(-c)
  ! odds 8 || args+=(--if-changed)
  for d in "${drives[@]}"; do
    args+=(--drive "${path[$d]}")
    excused+=${excuse[$d]-}
  done
  if [ $repo != repo ] && odds 12; then
    fill_disk
    filled=1
  fi
  try 70 "${args[@]}"
  if [ -n "$filled" ]; then
    rm small/other
    # It may have been enough.
    if [ "$status" = 7 ] && [ -z "$hit" ]; then
      hit=full
      fulls=$((fulls + 1))
    fi
  fi
  if [ -n "$hit" ]; then
    for d in "${drives[@]}"; do excuse["$d"]=1; done
    survived
    ! odds 3 || return 0
    at_night "${args[@]}"
    excused=1
  fi
  [[ $status = 0 || -n $excused && $status = 3 ]]
  for d in "${drives[@]}"; do excuse["$d"]=''; done
  newest_are "${drives[@]}"
}

# Which points does the policy keep? keep[ID] is set.
choose() {
  local d id n k left
  local -A last
  for d in a b c; do
    last=()
    left=([1]=7 [2]=4 [3]=6 [4]=1)
    for ((n = ${#ids[@]} - 1; n >= 0; n--)); do
      id=${ids[n]}
      [ -n "${want[$id/$d]-}" ] || continue
      k=0
      for period in "${day[$id]}" $(((${day[$id]} + 3) / 7)) \
        "${id:7:6}" "${id:7:4}"; do
        k=$((k + 1))
        if [ "${left[k]}" != 0 ] && [ "${last[$k]-}" != "$period" ]; then
          last[$k]=$period
          left[k]=$((left[k] - 1))
          keep[$id]=1
        fi
      done
    done
  done
  [ -z "$pinned" ] || keep[$pinned]=1
}

prune() {
  local args=(backup prune -q --keep-daily 7 --keep-weekly 4 --keep-monthly 6
    --keep-yearly 1 "$repo") id wanted=()
  local -A keep=()
  look_around
  choose
  for id in "${ids[@]}"; do
    [ -z "${keep[$id]-}" ] || wanted+=("$id")
  done
  try 120 "${args[@]}"
  if [ -n "$hit" ]; then
    all_are
    # None of those that are to stay has gone.
    [[ " ${ids[*]} " == *" ${wanted[-1]} "* ]]
    for id in "${wanted[@]}"; do [[ " ${ids[*]} " == *" $id "* ]]; done
    ! odds 2 || return 0
    at_night "${args[@]}"
  fi
  [ "$status" = 0 ]
  all_are
  [ "${ids[*]}" = "${wanted[*]}" ]
}

# Two or three points become one.
merge() {
  local first last n d wanted
  look_around
  first=$((RANDOM % ${#ids[@]}))
  last=$((first + 1 + RANDOM % 2))
  ((last < ${#ids[@]})) || return 0
  for ((n = first; n < last; n++)); do
    [ "${ids[n]}" != "$pinned" ] || return 0
    for d in a b c; do
      [ -z "${want[${ids[n]}/$d]-}" ] || [ -n "${want[${ids[last]}/$d]-}" ] ||
        return 0
    done
  done
  wanted=("${ids[@]:0:first}" "${ids[@]:last}")
  try 60 backup merge -q $repo "${ids[first]}..${ids[last]}"
  [ -n "$hit" ] || [ "$status" = 0 ]
  all_are
  [ -n "$hit" ] || [ "${ids[*]}" = "${wanted[*]}" ]
}

pin_or_unpin() {
  look_around
  if [ -n "$pinned" ]; then
    alter backup unpin -q $repo "$pinned"
    pinned=
  else
    pinned=${ids[RANDOM % ${#ids[@]}]}
    alter backup pin -q $repo "$pinned"
  fi
}

one_night() {
  local d paused=''
  for d in a b c; do ! odds 8 || happen $d; done
  ! odds 30 || lose_bitmap b
  if odds 40; then
    expect 0 bitmap disable -q --drive a.qcow2 nightly
    excuse[a]=1
    paused=1
  fi
  odds 7 || guests_write
  [ -z "$paused" ] || expect 0 bitmap enable -q --drive a.qcow2 nightly
  [ -n "${excuse[c]-}" ] || ! odds 10 ||
    expect 0 backup audit -q --drive c.qcow2 --bitmap nightly $repo
  back_up
  [ ${#ids[@]} -gt 0 ] || return 0
  ! odds 20 || expect 0 backup verify -q --read-data=7% $repo
  ! odds 15 || pin_or_unpin
  ! odds 50 || merge
  ((night % 9)) || prune
}

# What each of the points holds, by the logs alone.
replay_logs() {
  local n=0 logs=(log)
  while n=$((n + 1)) && [ -e log.$n ]; do logs=("log.$n" "${logs[@]}"); done
  # shellcheck disable=SC2016 # that is perl
  perl -e '
    use strict;
    my %disk = map {
      local $/;
      open my $raw, "<:raw", "start/$_.raw" or die;
      $_ => <$raw>;
    } "a", "b", "c";
    my (%listed, %kept, %was);
    $listed{shift @ARGV} = 1 while $ARGV[0] ne "--";
    shift @ARGV;
    my @lines = map { [split] } <>;
    my %needed = map { $_->[2] eq "was" ? ($_->[3] => 1) : () } @lines;
    for (@lines) {
      my ($night, $drive, $what, $at, $len, $byte) = @$_;
      if ($what eq "write") {
        substr $disk{$drive}, $at, $len, chr($byte) x $len;
      } elsif ($what eq "size") {
        my $more = $at - length $disk{$drive};
        $disk{$drive} .= "\0" x $more if $more > 0;
        substr $disk{$drive}, $at, -$more, "" if $more < 0;
      } elsif ($what eq "keep") {
        $kept{$drive}{$at} = $disk{$drive};
      } elsif ($what eq "back") {
        $disk{$drive} = $kept{$drive}{$at};
      } elsif ($what eq "was") {
        $disk{$drive} = $was{$at}{$drive};
      } elsif ($what eq "point") {
        $was{$at} = {%disk} if $needed{$at};
        next if !$listed{$at};
        for (keys %disk) {
          open my $raw, ">:raw", "replay/$at.$_" or die;
          print $raw $disk{$_};
          close $raw or die;
        }
      }
    }' "${ids[@]}" -- "${logs[@]}"
}

# check_logs: what they say of the points that there are is what was noted.
check_logs() {
  local line lines file
  rm -rf replay
  mkdir replay
  replay_logs
  mapfile -t lines < <(cd replay && xxh128sum -q -- *)
  [ ${#lines[@]} -ge ${#ids[@]} ]
  for line in "${lines[@]}"; do
    file=${line#*  }
    line=${line%% *}
    file=${file%.*}/${file##*.}
    [ "${want[$file]-$line}" = "$line" ] || {
      echo "by the logs, $file is something else"
      return 1
    }
  done
}

@test "a year of nights: each point that is listed is what the drives were" {
  local seed=${QIMG_SEED:-$RANDOM} nights d file
  echo "QIMG_SEED=$seed"
  RANDOM=$seed
  # These commands are too many for bats to look at each.
  set +T
  nights=$(rounds 365)
  for ((night = 1; night <= nights; night++)); do
    seconds=$((1798765200 + night * 86400 + RANDOM % 9000))
    printf -v now '%(%F %T)T' $seconds
    ((night % 30)) || rotate_log
    one_night
  done
  # The last word, without faults.
  at_night backup --auto -q --bitmap nightly --to $repo --drive a.qcow2 \
    --drive b --drive c.qcow2
  [[ $status = [03] ]]
  newest_are a b c
  all_are
  check_logs
  expect 0 backup verify -q --read-data $repo
  expect 0 backup check $repo
  # A run that is killed may leave clusters that nothing uses, and no more.
  for file in *.qcow2; do
    qemu-img check -q -r leaks "$file"
    oracle_check "$file"
  done
  echo "# $nights nights, seed $seed: $made points made, $restored restored;" \
    "$((kills + errors + fulls)) faults survived: $kills kills," \
    "$fulls full disks, $errors errors" >&3
}
