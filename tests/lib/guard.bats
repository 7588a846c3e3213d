#!/usr/bin/env bats
# Images that rest on another one: found whatever they are and where, and at
# no cost; what would corrupt them is refused.

load ../helpers
load ../cmd/common

# base.qcow2 < top.qcow2, and vm, a link to the latter.
setup() {
  qemu-img create -q -f qcow2 base.qcow2 4M
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 top.qcow2
  ln -s top.qcow2 vm
}

# poke FILE OFFSET BYTES: printf escapes, written over what is there.
poke() {
  # shellcheck disable=SC2059 # it is a format
  printf "$3" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

# rests FILE: a commit finds that it has base.qcow2 as its backing file.
rests() {
  refuses 6 commit --drive vm : "'base.qcow2'" "corrupted: '$1'"
}

@test "damaged and hostile images rest on their base all the same" {
  local at
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 good.qcow2
  # version, incompatible features, cluster_bits, size, l1_size, L1 table,
  # refcount table, nb_snapshots, header_length
  for at in 04 72 20 24 36 40 48 60; do
    cp good.qcow2 "bad$at.qcow2"
    poke "bad$at.qcow2" "$((10#$at))" '\377\377\377\377'
    expect_code 1 qemu-io -r -f qcow2 -c quit "bad$at.qcow2"
  done
  mv good.qcow2 bad99.qcow2
  poke bad99.qcow2 100 '\377\377\377\377'
  rests "bad04.qcow2', 'bad20.qcow2', 'bad24.qcow2', 'bad36.qcow2',\
 'bad40.qcow2', 'bad48.qcow2', 'bad60.qcow2', 'bad72.qcow2' and 'bad99.qcow2"
  mv bad99.qcow2 one.qcow2
  rm bad*
  # Version 1 has the name in the same place.
  poke one.qcow2 4 '\0\0\0\1'
  rests one.qcow2
  truncate -s 1k one.qcow2
  rests one.qcow2
  # Its name cannot be read: then nobody can.
  truncate -s 200 one.qcow2
  qimg commit -q --drive vm --dry-run
}

@test "a backing name anywhere in the first cluster" {
  qemu-img create -q -f qcow2 -o cluster_size=2M -b base.qcow2 -F qcow2 o.qcow2
  poke o.qcow2 2097142 base.qcow2
  poke o.qcow2 8 '\0\0\0\0\0\037\377\366'
  rests o.qcow2
  # Past it, or too long, it is no name.
  poke o.qcow2 15 '\367'
  qimg commit -q --drive vm --dry-run
  poke o.qcow2 8 '\377\377\377\377\377\377\377\377'
  qimg commit -q --drive vm --dry-run
  poke o.qcow2 8 '\0\0\0\0\0\0\2\0\0\0\4\0'
  qimg commit -q --drive vm --dry-run
}

@test "a huge bitmap directory costs nothing" {
  tee s{1..40}.qcow2 <base.qcow2 >/dev/null
  # 64 MiB of directory each, the most there may be, in a hole.
  perl -e '
    for my $file (@ARGV) {
      open my $f, "+<:raw", $file or die "$file: $!\n";
      truncate $f, 256 << 20;
      seek $f, 88, 0;
      print $f pack "Q>", 1;
      seek $f, 100, 0;
      read $f, my $length, 4;
      seek $f, unpack("N", $length), 0;
      print $f pack "NN NNQ>Q>", 0x23852875, 24, 65535, 0, 64 << 20, 1 << 20;
      close $f or die;
    }' s*.qcow2
  run_qimg bitmap list s1.qcow2
  [[ $stderr == *'bitmap directory is damaged'* ]]
  (
    # A sanitizer's own maps are larger.
    [ -n "$QIMG_SAN" ] || ulimit -v 200000
    timeout 20 "$QIMG" commit -q --drive vm --dry-run
  )
}

@test "each file of the folder is opened once, and its head alone is read" {
  tee s{1..100}.qcow2 <base.qcow2 >/dev/null
  QIMG_FAULT=open:130:kill qimg commit -q --drive vm --dry-run
  run ! fault_fired
  QIMG_FAULT=read:160:kill qimg commit -q --drive vm --dry-run
  run ! fault_fired
  # They are counted.
  QIMG_FAULT=open:90:kill run -137 "$QIMG" commit -q --drive vm --dry-run
  fault_fired
}

@test "what is no file is not opened" {
  local pid
  mkfifo fifo
  ln -s fifo link
  ln -s /dev/full device
  # Opening the FIFO would let the writer go on.
  echo >fifo 3>&- &
  pid=$!
  sleep 0.1
  qimg commit -q --drive vm --dry-run
  [ "$(ps -o stat= "$pid" | cut -c1)" = S ]
  kill "$pid"
  wait "$pid" || true
}

@test "folders that --scan names: commit, resize, snapshot" {
  local at
  mkdir far near
  qemu-img create -q -f qcow2 -b "$PWD/base.qcow2" -F qcow2 far/o.qcow2
  qimg commit -q --drive vm --dry-run
  qimg commit -q --drive vm --dry-run --scan near
  refuses 6 commit --drive vm --scan near --scan far : "corrupted: 'far/o.qcow2'"
  # The same folder again, and the one that is looked at anyway.
  refuses 6 commit --drive vm --scan far/. --scan . --scan "$PWD/far" \
    : "corrupted: 'far/./o.qcow2'"
  [[ $stderr == *"o.qcow2'" && $stderr != *,* ]]
  refuses 1 commit --scan far top.qcow2 : "'far/o.qcow2'"
  refuses 1 resize --shrink --scan far base.qcow2 1M : "'far/o.qcow2'"
  refuses 1 commit --drive vm --scan gone : "'gone'" 'No such file'
  # Rename: a plain file would get another name.
  cp base.qcow2 plain.qcow2
  qemu-img create -q -f qcow2 -b "$PWD/plain.qcow2" -F qcow2 far/p.qcow2
  qimg snapshot create -q -n --drive plain.qcow2 s
  refuses 6 snapshot create --scan far --drive plain.qcow2 s : "'far/p.qcow2'"
  # The base would be renamed, and a link in another folder leads to it.
  rm far/o.qcow2 vm
  ln -s ../base.qcow2 far/link
  qimg commit -q -n --drive top.qcow2
  refuses 6 commit --drive top.qcow2 --scan far : "'far/link'"
}

@test "an overlay elsewhere is seen through its drive link" {
  mkdir far
  qemu-img create -q -f qcow2 -b ../base.qcow2 -F qcow2 far/o.qcow2
  qimg commit -q --drive vm --dry-run
  ln -s far/o.qcow2 other
  rests "$PWD/far/o.qcow2"
  # The head itself, in another folder, is no other image.
  rm other vm top.qcow2
  ln -s far/o.qcow2 vm
  qimg commit -q --drive vm --dry-run
}

@test "a base that is named through a link is looked for where it is" {
  mkdir store
  mv base.qcow2 store
  ln -s store/base.qcow2 base.qcow2
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 store/o.qcow2
  rests "$PWD/store/o.qcow2"
}

@test "a frozen or shared layer does not shrink, wherever its overlays are" {
  mkdir away
  qimg snapshot create -q --drive vm s
  mv vm.s.qcow2 away
  refuses 1 resize --shrink top.qcow2 1M : "a snapshot has frozen it" \
    "'qimg clone --unshare top.qcow2'"
  qemu-img create -q -f qcow2 one.qcow2 4M
  ln -s one.qcow2 d
  qemu-io -c 'write 0 64k' one.qcow2 >/dev/null
  qimg clone -q --drive d away/copy.qcow2
  rm -f d.*
  refuses 1 resize --shrink one.qcow2 1M : "clones were made on it"
  qimg resize -q one.qcow2 5M
}

@test "marks of a layer outlive what is done to bitmaps, until --unshare" {
  mkdir away
  write top.qcow2 'write -P 5 0 64k'
  qimg snapshot create -q --drive vm --overlay away/head.qcow2 s
  # Another link: its head is the layer below, by mistake.
  ln -s top.qcow2 other
  refuses 6 commit --drive other : "a snapshot has frozen it"
  qimg bitmap add -q --drive other x
  qimg bitmap clear -q --drive other x
  refuses 6 commit --drive other : "a snapshot has frozen it" \
    "'qimg clone --unshare top.qcow2'"
  rm away/head.qcow2 vm
  ln -sf top.qcow2 vm
  qimg bitmap remove -q --drive other x
  qimg clone -q --unshare top.qcow2
  rm other
  qimg commit -q --drive vm
}

@test "a shared layer is not replaced, whatever links to it" {
  mkdir away
  qimg snapshot create -q --drive vm --overlay head.qcow2 s
  write head.qcow2 'write -P 5 0 64k'
  qimg clone -q --drive vm --tag t away/copy.qcow2
  ln -sfn head.qcow2 vm
  qimg bitmap add -q --drive vm x 2>/dev/null || true
  rm -f vm.t.qcow2
  qimg bitmap add -q --drive vm y
  refuses 6 snapshot revert --drive vm s : "clones were made on it"
  qemu-io -r -f qcow2 -c 'read -P 5 0 64k' away/copy.qcow2 >out
  run ! grep failed out
}

@test "an overlay with a dot in front of its name is seen" {
  write top.qcow2 'write -P 5 0 64k'
  qemu-img create -q -f qcow2 -b base.qcow2 -F qcow2 .hidden.qcow2
  rests .hidden.qcow2
  # It is no file of ours that has not got its name yet.
  mv .hidden.qcow2 .hidden.qcow2.qimg
  qimg commit -q --drive vm
}

@test "a second link to the head: no commit, which would remove the file" {
  ln -s top.qcow2 second
  refuses 6 commit --drive vm : "the link 'second' leads to it, too"
  rm second
  ln -s "$PWD/top.qcow2" second
  refuses 6 commit --drive vm : "the link 'second' leads to it, too"
  rm second
  qimg commit -q --drive vm
}
