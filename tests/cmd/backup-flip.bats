#!/usr/bin/env bats
# One byte of a repository that has turned into another: verify finds it
# wherever it is, and a restore gives what was backed up, or nothing.

load ../helpers
load common

# Two drives; full, then increments, packed ones among them; one that is merged,
# one that is pinned, one that was verified.
mkrepo() {
  mkimage a.qcow2 1M 7
  mkimage b.qcow2 333K 8 -o cluster_size=4k
  qimg bitmap add -q --drive a.qcow2 daily
  qimg bitmap add -q --drive b.qcow2 daily
  take --full
  write a.qcow2 'write -P 1 100k 200k' 'write -z 512k 128k'
  write b.qcow2 'write -P 2 0 5k'
  take --incremental
  write a.qcow2 'write -P 3 0 64k'
  take --incremental -c
  write b.qcow2 'write -P 4 300k 20k'
  write a.qcow2 'write -P 5 700k 30k'
  take --incremental
  qimg backup merge -q repo 000002..000003
  qimg backup pin -q repo 000003
  qimg backup verify -q --read-data repo last
  qemu-img convert -O raw a.qcow2 a.raw
  qemu-img convert -O raw b.qcow2 b.raw
}

take() {
  qimg backup -q "$@" --drive a.qcow2 --drive b.qcow2 --bitmap daily --to repo
}

# flips FILE COUNT: that many places in it and what to turn there, all of them
# when it has no more: 'FILE AT XOR' on a line each.
flips() {
  perl -e '
    my ($file, $count, $seed) = @ARGV;
    my $size = -s $file;
    srand $seed;
    my %at = map { $_ => 1 } $count < $size ?
      (0, $size - 1, map { int rand $size } 3 .. $count) : 0 .. $size - 1;
    print "$file $_ ", 1 << int rand 8, "\n" for sort { $a <=> $b } keys %at;
  ' "$1" "$2" "$seed"
}

# try_flips: each of those on stdin alone. verify has to fail with damage; so has
# the restore of the last point, or give the disks as they were. Prints how many
# there were, and how many of them a restore has refused.
try_flips() {
  perl -e '
    use strict;
    my ($tried, $refused) = (0, 0);
    my $qimg = $ENV{QIMG};
    sub turn {
      my ($file, $at, $xor) = @_;
      open my $f, "+<:raw", $file or die "$file: $!\n";
      seek $f, $at, 0;
      read $f, my $c, 1;
      seek $f, $at, 0;
      print $f chr(ord($c) ^ $xor);
    }
    sub slurp { open my $f, "<:raw", $_[0] or return ""; local $/; <$f> }
    my %as = map { $_ => slurp("$_.raw") } "a", "b";
    while (<STDIN>) {
      chomp;
      my ($file, $at, $xor) = split;
      turn $file, $at, $xor;
      my $code = system("$qimg backup verify -q --read-data repo " .
        ">found 2>&1") >> 8;
      die "$_: verify ends with $code: " . slurp("found") if $code != 4;
      die "$_: nothing is said" if !-s "found";
      $code = system("$qimg restore -q --from repo -O raw out " .
        ">said 2>&1") >> 8;
      if ($code) {
        die "$_: restore ends with $code: " . slurp("said") if $code != 4;
        die "$_: something is left" if glob "out/* out/.??*";
        $refused++;
      } else {
        for my $name ("a", "b") {
          die "$_: not as it was" if slurp("out/$name.raw") ne $as{$name};
          unlink "out/$name.raw";
        }
      }
      turn $file, $at, $xor;
      $tried++;
    }
    print "$tried $refused\n";
  '
}

@test "one changed byte anywhere is found, and never restored" {
  local file n seed=${QIMG_SEED:-$RANDOM} tried refused
  mkrepo
  mkdir out
  echo "seed $seed"
  n=$(rounds 12)
  find repo -type f -size +0 | sort >files
  # Notes of what was verified are written anew by each run: apart.
  grep -v verified.json files >kept
  while read -r file; do
    flips "$file" "$n"
  done <kept >list
  # Each kind of file is among them.
  for file in README CHECKSUMS qimg-repository.json manifest.json .hashes \
    .qcow2; do
    grep -q "$file " list
  done
  cp -a repo whole
  read -r tried refused < <(try_flips <list)
  echo "# seed $seed: $tried bytes were changed and found, restore refused $refused" >&3
  [ "$tried" = "$(wc -l <list)" ]
  [ "$refused" -gt $((tried / 4)) ]
  [ "$refused" -lt "$tried" ]
  diff -r -x verified.json whole repo
  qimg backup verify -q --read-data repo
}


@test "a changed note of what was verified is not believed" {
  local at note size seed=${QIMG_SEED:-$RANDOM}
  qemu-img create -q -f qcow2 a.qcow2 64K
  qimg backup -q --full --drive a.qcow2 --to repo
  qimg backup verify -q --read-data repo
  note=$(echo repo/points/*/verified.json)
  cp "$note" note
  size=$(wc -c <note)
  echo "seed $seed"
  stride 4
  for ((at = first - 1; at < size; at += step)); do
    cp note "$note"
    perl -e 'open my $f, "+<:raw", $ARGV[0]; seek $f, $ARGV[1], 0;
      read $f, my $c, 1; seek $f, $ARGV[1], 0;
      print $f chr(ord($c) ^ 1 << $ARGV[2])' "$note" $at $(((seed + at) % 8))
    expect_code 4 qimg backup verify -q repo
    says "'verified.json' was changed"
  done
  [ "$size" -gt 100 ]
  # It is a new one now, that tells of damage; the next run finds none.
  run ! cmp -s note "$note"
  qimg backup verify -q repo
}

@test "damaged data: exactly its chunks are told" {
  local at image seed=${QIMG_SEED:-$RANDOM}
  mkpattern vm.raw 8M "$seed"
  qimg backup -q --full --drive vm.raw --to repo
  image=$(echo repo/points/*/vm.qcow2)
  qemu-img map --output=json repo/points/*/vm.qcow2 >extents
  echo "seed $seed"
  # Five bytes of the data; prints where the disk has them.
  jq -r '.[] | select(.data) | "\(.start) \(.length) \(.offset)"' extents |
    perl -e '
      use strict;
      my ($image, $seed) = @ARGV;
      my @map = map { [split] } <STDIN>;
      srand $seed;
      open my $f, "+<:raw", $image or die;
      my %hit;
      while (keys %hit < 5) {
        my $x = $map[rand @map];
        my $in = int rand $x->[1];
        next if $hit{int(($x->[0] + $in) / 65536)}++;
        seek $f, $x->[2] + $in, 0;
        read $f, my $c, 1;
        seek $f, $x->[2] + $in, 0;
        print $f chr(ord($c) ^ 16);
      }
      print $_ * 65536, " 65536\n" for sort { $a <=> $b } keys %hit;
    ' "$image" "$seed" >want
  expect_code 4 qimg backup verify -q --read-data repo
  sed -n 's/.*the data at \([0-9]*\), \([0-9]*\) bytes.*/\1 \2/p' \
    <<<"$output" >told
  diff want told
  [ "$(wc -l <<<"$output")" = "$(wc -l <want)" ]
  # A restore ends at the first.
  read -r at _ <want
  refuses 4 restore --from repo -O raw out.raw -m 1 : "at $at, "
}
