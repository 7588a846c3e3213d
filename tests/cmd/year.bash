# What happens to the drives of backup-year.bats from one night to the next, to
# their images and, by other means, to their models. Each function is given the
# name of a drive, if not said otherwise.
# shellcheck shell=bash

# Of each drive: where it is, its snapshots, the last one at the end, whether
# it has an internal one, and whether the next backup may be no increment.
# shellcheck disable=SC2034 # of excuse
declare -gA path=([a]=a.qcow2 [b]=b [c]=c.qcow2) tags=() inner=() excuse=()

take_snapshot() {
  local tag=t$night
  alter snapshot create -q --drive "${path[$1]}" "$tag"
  cp model/"$1".raw "kept/$1.$tag"
  note "$1" keep "$tag"
  tags[$1]+=" $tag"
}

# The last snapshot of a drive and its head become one.
commit_head() {
  local tag=${tags[$1]##* } file
  file=$1@$tag.qcow2
  [ "$1" != b ] || file=b.$tag.qcow2
  try 40 commit -q --drive "${path[$1]}"
  # When the file is gone it was done; again would be the next one.
  [ -z "$hit" ] || [ ! -e "$file" ] || again commit -q --drive "${path[$1]}"
  [ "$status" = 0 ] || [[ -n $hit && ! -e $file ]]
  tags[$1]=${tags[$1]% *}
}

drop_snapshot() {
  local tag all=()
  read -ra all <<<"${tags[$1]}"
  tag=${all[RANDOM % ${#all[@]}]}
  try 40 snapshot delete -q --drive "${path[$1]}" "$tag"
  [ -z "$hit" ] || again snapshot delete -q --drive "${path[$1]}" "$tag"
  [ "$status" = 0 ] || [[ -n $hit && $stderr == *"has no snapshot '$tag'"* ]]
  tags[$1]="${tags[$1]} "
  tags[$1]=${tags[$1]/ $tag / }
  tags[$1]=${tags[$1]% }
}

go_back() {
  local tag=${tags[$1]##* }
  alter snapshot revert -q --drive "${path[$1]}" "$tag"
  cp "kept/$1.$tag" model/"$1".raw
  note "$1" back "$tag"
}

# drop_internal DRIVE: also where there is none, after a fault.
drop_internal() {
  try 20 snapshot -q -d inside "${path[$1]}"
  [ -z "$hit" ] || again snapshot -q -d inside "${path[$1]}"
  [ "$status" = 0 ] || [[ -n $hit && $stderr == *"no internal snapshot"* ]]
}

# A snapshot inside of the image; or back to it, and it goes.
use_internal() {
  if [ -n "${inner[$1]-}" ]; then
    alter snapshot -q -a inside "${path[$1]}"
    cp "kept/$1.inside" model/"$1".raw
    note "$1" back inside
    drop_internal "$1"
    inner[$1]=
    return
  fi
  try 20 snapshot -q -c inside "${path[$1]}"
  if [ -n "$hit" ]; then
    # It may be there, and there can be two of that name.
    again snapshot -q -d inside "${path[$1]}"
    again snapshot -q -c inside "${path[$1]}"
  fi
  [ "$status" = 0 ]
  cp model/"$1".raw "kept/$1.inside"
  note "$1" keep inside
  inner[$1]=1
}

resize() {
  local size
  size=$(stat -c %s model/"$1".raw)
  # A layer that is larger than its head could not be merged with it.
  if [ -z "${tags[$1]-}${inner[$1]-}" ] && odds 3; then
    size=$((size - RANDOM % (size / 1024) * 512))
  else
    size=$((size + RANDOM % 800 * 512))
  fi
  ((size <= 2 << 20)) || return 0
  alter resize -q --shrink "${path[$1]}" $size
  truncate -s $size model/"$1".raw
  note "$1" size $size
}

# Back to what the drive was at one of the points, without another image.
put_back() {
  local id=${ids[RANDOM % ${#ids[@]}]}
  [ -n "${want[$id/$1]-}" ] || return 0
  "$QIMG" restore -q --force --from "$repo" --at "$id" --drive "$1" -O raw \
    model/"$1".raw
  alter restore -q --delta --from "$repo" --at "$id" --drive "$1" "${path[$1]}"
  note "$1" was "$id"
}

happen() {
  local what=$((RANDOM % 12)) count
  read -ra count <<<"${tags[$1]-}"
  case $what:${#count[@]}:${inner[$1]-} in
  [0-2]:[0-2]:) take_snapshot "$1" ;;
  [3-4]:[1-9]:) commit_head "$1" ;;
  5:[1-9]:) drop_snapshot "$1" ;;
  6:[1-9]:) go_back "$1" ;;
  [7-8]:*) resize "$1" ;;
  9:0:* | 10:*:1) use_internal "$1" ;;
  11:0:) [ ${#ids[@]} = 0 ] || put_back "$1" ;;
  esac
}

# The bitmap can not serve the next backup.
lose_bitmap() {
  case $((RANDOM % 2)) in
  0) expect 0 bitmap clear -q --drive "${path[$1]}" nightly ;;
  1)
    expect 0 bitmap remove -q --drive "${path[$1]}" nightly
    expect 0 bitmap add -q --drive "${path[$1]}" nightly
    ;;
  esac
  excuse[$1]=1
}

# write_to SEED END DRIVE...: what the guests write. The last one ends with the
# commands of END. It goes into the images by one qemu-io, and into the models.
write_to() {
  # shellcheck disable=SC2016 # that is perl
  perl -e '
    use strict;
    my ($night, $seed, $end, @drives) = @ARGV;
    srand $seed;
    open my $log, ">>", "log" or die;
    while (@drives) {
      my ($name, $path) = split /=/, shift @drives;
      print "open -o driver=qcow2 $path\n";
      open my $raw, "+<:raw", "model/$name.raw" or die;
      my $size = -s $raw;
      for (1 .. 1 + rand 5) {
        my $unit = (512, 4096, 16384, 32768)[rand 4];
        my $at = $unit * int rand($size / $unit);
        my $len = $unit * int(1 + rand 8);
        my $byte = int rand 4 ? 1 + int rand 255 : 0;
        my $how = $byte ? "-P $byte" : ("-P 0", "-z", "-z -u")[rand 3];
        $len = $size - $at if $len > $size - $at;
        print "write -q $how $at $len\n";
        print $log "$night $name write $at $len $byte\n";
        seek $raw, $at, 0;
        print $raw chr($byte) x $len;
      }
      close $raw or die;
      print @drives ? "close\n" : "$end\n";
    }
    close $log or die' "$night" "$1" "$2" "${@:3}" >script
  status=0
  qemu-io <script >/dev/null 2>&1 || status=$?
  case $2 in
  close) [ $status = 0 ] ;;
  *) [ $status = 137 ] ;;
  esac
}

guests_write() {
  local drives=() d end=close
  for d in a b c; do odds 4 || drives+=("$d=${path[$d]}"); done
  [ ${#drives[@]} -gt 0 ] || return 0
  # Now and then the last one is killed.
  if odds 25; then
    end=$'flush\nsigraise 9'
    d=${drives[-1]%%=*}
    excuse["$d"]=1
  fi
  write_to "$RANDOM" "$end" "${drives[@]}"
}
