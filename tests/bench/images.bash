# The images that tests/bench/speed measures with, which sources this. make_NAME
# makes the folder NAME, or says in `why` why it cannot. QEMU's tools
# make all but what would take them long: bitmaps, and the compressed image.
# shellcheck shell=bash

# shellcheck disable=SC2034 # speed looks at some of them
if [ -z "$quick" ]; then
  room=15000 # MiB, for all there is at one time
  tree=/usr  # where files are taken from
  files_mib=1600
  disk=4G # which holds them
  mapped=1T
  grown=512G
  huge=10T
  places=500 # that are written in the large ones
  layer_mib=1024
  layers=200
  part=1G # of the disk, where files can share
else
  room=600 tree=/usr/bin files_mib=10 disk=32M mapped=16G grown=8G huge=64G
  places=20 layer_mib=16 layers=8 part=4M
fi

# real_files MIB: the names of so many, some of all that the tree has, in
# the same order each time. They are taken again where they are too few.
real_files() {
  local list
  list=$(find $tree -xdev -type f -readable -size +16k -size -64M \
    ! -name '*["\]*' -printf '%s %p\n' 2>/dev/null | sort -k 2)
  awk -v mib="$1" '
    { size[NR] = $1; sub(/^[0-9]* /, ""); name[NR] = $0; all += size[NR] }
    END {
      want = mib * 1048576
      share = all > want ? want / all : 1
      while (all && taken < want)
        for (i = 1; i <= NR && taken < want; i++) {
          due += size[i] * share
          if (taken < due) {
            taken += size[i]
            print name[i]
          }
        }
    }' <<<"$list"
}

# A file system of ordinary files, which debugfs writes without a copy and
# without rights.
make_disk() {
  local raw=disk/disk.raw
  truncate -s $disk $raw
  mke2fs -q -F -t ext4 -b 4096 -O ^has_journal $raw
  real_files $files_mib | awk '
    NR % 500 == 1 { print "cd /\nmkdir d" ++d "\ncd d" d } # not all in one
    { printf "write \"%s\" f%d\n", $0, NR }' >list
  debugfs -w -f list $raw >debugfs.log 2>&1
  # It names each command, and ends well whatever became of them.
  if grep -vE '^(debugfs|Allocated)' debugfs.log; then stop "debugfs failed"; fi
  "$theirs" convert -f raw -O qcow2 $raw disk/disk.qcow2
}

make_zlib() {
  need disk
  "$ours" convert -c -f raw -O qcow2 disk/disk.raw zlib/disk.qcow2
}

make_small() {
  "$theirs" create -q -f qcow2 small/disk.qcow2 1G
}

# scatter IMAGE SIZE: small writes all over it.
scatter() {
  awk -v places=$places -v size="$(numfmt --from=iec "$2")" 'BEGIN {
    for (n = 0; n < places; n++)
      # Not %d, which ends at 2 GiB in some awks.
      printf "write -q -P %d %.0f 4k\n", 1 + n % 255,
        int(n * (size / places) / 65536) * 65536
  }' | qemu_io "$1"
}

make_mapped() {
  "$theirs" create -q -f qcow2 -o preallocation=metadata mapped/disk.qcow2 \
    $mapped
}

make_snapped() {
  need mapped
  cp mapped/disk.qcow2 snapped/
  "$theirs" snapshot -c s snapped/disk.qcow2
}

# with_bitmaps IMAGE SIZE OPTION...: two; a has what is written after b is there.
with_bitmaps() {
  "$ours" bitmap --add "${@:3}" "$1" a
  scatter "$1" "$2"
  "$ours" bitmap --add "${@:3}" "$1" b
}

make_marked() {
  need mapped
  cp mapped/disk.qcow2 marked/
  with_bitmaps marked/disk.qcow2 $mapped
}

make_huge() {
  "$theirs" create -q -f qcow2 huge/disk.qcow2 $huge
  with_bitmaps huge/disk.qcow2 $huge -g 4k
}

# layer NAME BASE COMMAND: with what that qemu-io command writes.
layer() {
  "$theirs" create -q -f qcow2 -b "$2" -F qcow2 "$1"
  qemu_io "$1" <<<"$3"
}

# base MIB: base.qcow2, on which the others are; it holds a quarter of that.
base() {
  "$theirs" create -q -f qcow2 base.qcow2 $((4 * $1))M
  qemu_io base.qcow2 <<<"write -q -P 1 0 $(($1 / 4))M"
}

make_layers() {
  (
    cd layers || exit
    base $layer_mib
    layer top.qcow2 base.qcow2 "write -q -P 3 ${layer_mib}M ${layer_mib}M"
  )
}

# Half of what base has is another in other.qcow2.
make_bases() {
  (
    cd bases || exit
    base $layer_mib
    layer other.qcow2 base.qcow2 "write -q -P 2 0 $((layer_mib / 8))M"
    layer top.qcow2 base.qcow2 "write -q -P 3 ${layer_mib}M 4M"
  )
}

# Files 000 to 200, each with 1 MiB of its own. All are written as if on 000, and
# then told what they are on: a name that is as long.
make_chain() {
  local n name
  (
    cd chain || exit
    "$theirs" create -q -f qcow2 000.qcow2 1G
    qemu_io 000.qcow2 <<<"write -q -P 1 0 64M"
    "$theirs" create -q -f qcow2 -b 000.qcow2 -F qcow2 top
    for ((n = 1; n <= layers; n++)); do
      printf -v name %03d.qcow2 "$n"
      cp top "$name"
      echo "open -o driver=qcow2 $name"
      echo "write -q -P $n $((n * 4))M 1M"
      echo "close"
    done >list
    qemu_io <list
    perl -e '
      for my $n (2 .. $ARGV[0]) {
        open my $f, "+<:raw", sprintf "%03d.qcow2", $n or die;
        read $f, my $head, 20;
        my ($at, $len) = unpack "x8 Q> L>", $head;
        seek $f, $at, 0;
        print $f sprintf "%03d.qcow2", $n - 1;
        close $f or die;
      }' $layers
    rm top list
    [ -e 200.qcow2 ] || cp "$(printf %03d.qcow2 $layers)" 200.qcow2
  )
}

mounted=

unmount() {
  [ -n "$mounted" ] || return 0
  umount "$work/$mounted"
  rm -f "$mounted.img"
  unset "made[$mounted]"
  mounted=
}

# shared TYPE COMMAND...: a file system on which files can share what they hold,
# with some of the disk. There is one at a time.
shared() {
  local type=$1
  shift
  unmount
  if [ -n "$quick" ]; then
    why="not in a quick run"
  elif [ "$(id -u)" != 0 ]; then
    why="only root can mount one"
  elif ! command -v "$1" >/dev/null; then
    why="no $1"
  else
    truncate -s 6G "$type.img"
    "$@" "$type.img" >mkfs.log 2>&1 || stop "$* failed: $(cat mkfs.log)"
    if mount -o loop "$type.img" "$type" 2>mount.log; then
      mounted=$type
      need disk
      head -c $part disk/disk.raw >"$type/disk.raw"
      "$theirs" convert -f raw -O qcow2 "$type/disk.raw" "$type/disk.qcow2"
      sync -f "$type"
    else
      # shellcheck disable=SC2034 # speed tells it
      why="cannot be mounted: $(tail -n 1 mount.log)"
    fi
  fi
}

make_xfs() {
  shared xfs mkfs.xfs -q -m reflink=1
}

make_btrfs() {
  shared btrfs mkfs.btrfs -q
}
