#!/usr/bin/env bats
# The formats that are recognised, and no more: bochs cloop dmg luks parallels
# qcow qed vdi vhdx vmdk vpc.

load ../helpers
load common

# make KIND: an image that qemu-img makes, of 10M and something.
make() {
  local create=(qemu-img create -q) options=()
  case $1 in
  luks)
    create=(create_luks)
    options=(--object "secret,id=s,data=x" -o "key-secret=s,iter-time=10")
    ;;
  vmdk-*) options=(-o "subformat=${1#*-}") ;;
  vpc-fixed) options=(-o "subformat=fixed,force_size=on") ;;
  vpc-exact) options=(-o force_size=on) ;;
  esac
  "${create[@]}" -f "${1%%-*}" "${options[@]}" "$1.img" 10489344
}

# sign_vpc FILE MAKER: the footer at its start is as MAKER, 4 bytes, made it.
sign_vpc() {
  poke "$1" 28 "$2"
  poke "$1" 64 '\0\0\0\0'
  poke_be "$1" 64 4 $((~$(od -An -v -t u1 -w1 -N 512 "$1" |
    awk '{ s += $1 } END { print s }') & 0xffffffff))
}

# says_what PROGRAM FILE: what both programs know, as one line.
says_what() {
  "$1" info --output json "$2" 2>"$2.err" | jq -cS '[.format, ."virtual-size",
    ."actual-size", ."cluster-size", .encrypted, ."backing-filename"]'
}

# same_info FILE: qimg says of it what qemu-img says, if that is not a refusal.
same_info() {
  local theirs ours
  theirs=$(says_what qemu-img "$1")
  ours=$(says_what qimg "$1")
  echo "$1: qemu-img $theirs, qimg $ours"
  [ "$theirs" = "$ours" ]
}

# Those that QEMU reads, but does not make.
make_others() {
  {
    printf 'Bochs Virtual HD Image\0%.0s' 1
    head -c 9 /dev/zero
    printf 'Redolog\0\0\0\0\0\0\0\0\0Growing\0\0\0\0\0\0\0\0\0'
    printf '\0\0\2\0\0\2\0\0\100\0\0\0\1\0\0\0\0\0\1\0\0\0\0\0'
    printf '\0\0\100\0\0\0\0\0'
    head -c 65536 /dev/zero
  } >bochs.img
  {
    # shellcheck disable=SC2016 # it is the text of such an image
    printf '#!/bin/sh\n#V2.0 Format\nmodprobe cloop file=$0 && %s' \
      'mount -r -t iso9660 /dev/cloop $1
'
    head -c 24 /dev/zero
  } >cloop.img
  truncate -s 128 cloop.img
  printf '\0\1\0\0\0\0\0\1\0\0\0\0\0\0\0\220\0\0\0\0\0\0\1\0' >>cloop.img
  truncate -s 1k cloop.img
}

@test "info says what qemu-img says" {
  local kind
  for kind in vdi qed parallels qcow luks vhdx vpc vpc-exact \
    vmdk-monolithicSparse vmdk-streamOptimized; do
    make "$kind"
    same_info "$kind.img"
  done
  make_others
  same_info bochs.img
  same_info cloop.img
  # Files of a disk in many are not opened, so they do not count either.
  make vmdk-monolithicFlat
  [ "$(qimg info --output json vmdk-monolithicFlat.img |
    jq -r '.format, ."virtual-size"' | xargs)" = "vmdk 10489344" ]
}

@test "the size of a VHD is its geometry, unless its maker records it" {
  local maker
  make vpc
  for maker in 'win ' 'd2v ' 'tap\0' CTXS 'vpc ' 'vs  '; do
    sign_vpc vpc.img "$maker"
    same_info vpc.img
  done
}

@test "backing files of theirs" {
  local kind
  make qcow
  for kind in qcow qed; do
    qemu-img create -q -f $kind -b qcow.img -F qcow "over-$kind"
    same_info "over-$kind"
    [ "$(qimg graph over-$kind --output json | jq '.nodes | length')" = 2 ]
  done
  make vmdk-monolithicSparse
  qemu-img create -q -f vmdk -b vmdk-monolithicSparse.img -F vmdk over-vmdk
  same_info over-vmdk
}

@test "a text that describes a VMDK" {
  printf '%s\n' '# Disk DescriptorFile' '   ' version=1 CID=fffffffe \
    parentCID=ffffffff 'createType="monolithicFlat"' \
    'RW 20480 FLAT "none" 0' 'RW 100 ZERO' >a
  [ "$(qimg info --output json a | jq -r '.format, ."virtual-size"' | xargs)" = \
    "vmdk 10485760" ]
  sed 's/$/\r/' a >b
  [ "$(qimg info --output json b | jq -r '.format, ."virtual-size"' | xargs)" = \
    "vmdk 10485760" ]
  sed s/version=1/version=4/ a >c
  same_info c
  { head -c 600 /dev/zero | tr '\0' '#' && echo && cat a; } >d
  same_info d
  sed s/RW/RD/ a >e
  expect_code 1 qimg info e
  [ "$stderr" = "qimg: 'e' is damaged: it describes no disk" ]
  sed 's/20480/999999999999999999/' a >f
  expect_code 1 qimg info f
  [[ $stderr == *"'f' is damaged"* ]]
}

@test "a macOS image is known by its name" {
  { head -c 1M /dev/zero && printf koly; } >a.dmg
  truncate -s $((1048576 + 512)) a.dmg
  poke a.dmg 1048576+492 '\0\0\0\0\0\0\20\0'
  [ "$(qimg info --output json a.dmg | jq -r '.format, ."virtual-size"' |
    xargs)" = "dmg 2097152" ]
  truncate -s 1M b.dmg
  expect_code 1 qimg info b.dmg
  [ "$stderr" = "qimg: 'b.dmg' is not in dmg format" ]
  mv a.dmg a.img
  expect_code 0 qimg info --output json a.img
  [ "$(jq -r .format <<<"$output")" = raw ]
  [[ $stderr == *"'a.img' ends as an image of format 'dmg' does"* ]]
}

# shellcheck disable=SC2030 # it is asked nowhere else
@test "a fixed VHD is raw to who does not know, but not without a warning" {
  make vpc-fixed
  expect_code 0 qimg info --output json vpc-fixed.img
  [ "$(jq -r '.format, ."virtual-size"' <<<"$output" | xargs)" = \
    "raw 10489856" ]
  [[ $stderr == "qimg: warning: 'vpc-fixed.img' ends as an image of format 'vpc' "* ]]
  expect_code 0 qimg info -f raw vpc-fixed.img
  [ "$stderr" = "" ]
  [ "$(qimg info -f vpc --output json vpc-fixed.img |
    jq -r '."virtual-size"')" = 10489344 ]
}

refused="is recognised, but reading and writing it is not supported"

# refuses ARG...: qimg does, and says so.
refuses() {
  run_qimg "$@"
  # shellcheck disable=SC2031 # it was set by the line above
  [ "$status" != 0 ]
  [[ $stderr == "qimg: "*"format 'vdi' of 'vdi.img' $refused" ]] || {
    echo "$*: $stderr"
    return 1
  }
}

@test "whoever wants their data gets a refusal" {
  make vdi
  cp vdi.img before
  refuses convert -O raw vdi.img out.raw
  refuses compare vdi.img vdi.img
  refuses map vdi.img
  refuses digest vdi.img
  refuses check vdi.img
  refuses check -r all vdi.img
  refuses resize vdi.img 20M
  refuses rebase -u -b '' vdi.img
  refuses amend -o compat=1.1 vdi.img
  refuses snapshot -l vdi.img
  refuses snapshot -c x vdi.img
  refuses bitmap add --node vdi.img x
  # Said to be raw, it is.
  qimg convert -q -f raw -O raw vdi.img raw.img
  cmp vdi.img raw.img
  expect_code 1 qimg create -f vdi new.vdi 1M
  [ "$stderr" = "qimg: format 'vdi' is recognised, but making such images is not supported" ]
  expect_code 1 qimg convert -f raw -O vdi raw.img new.vdi
  cmp vdi.img before
  [ ! -e out.raw ] && [ ! -e new.vdi ]
}

@test "as a backing file they can be named, but not read" {
  make vdi
  qimg create -q -f qcow2 -b vdi.img -F vdi over.qcow2
  qimg info --backing-chain over.qcow2 >/dev/null
  qimg check -q over.qcow2
  refuses convert -O raw over.qcow2 out.raw
  refuses map over.qcow2
  refuses compare over.qcow2 over.qcow2
  refuses digest over.qcow2
  cp over.qcow2 before
  expect_code 1 qimg commit over.qcow2
  [[ $stderr == *"which cannot be written in place" ]]
  refuses rebase -b '' over.qcow2
  cmp over.qcow2 before
  [ ! -e out.raw ]
}

@test "real disks stay raw" {
  local f
  truncate -s 8M zeroes mbr gpt
  poke mbr 446 '\x80\0\1\0\x83\0\0\0\0\x08\0\0\0\x38'
  poke mbr 510 '\x55\xaa'
  poke gpt 510 '\x55\xaa'
  poke gpt 450 '\xee'
  poke gpt 512 'EFI PART\0\0\1\0\x5c'
  truncate -s 8M ext4
  mke2fs -qF -t ext4 ext4
  : >empty
  head -c 1M /dev/urandom >noise
  printf '#!/bin/sh\necho hello\n' >script
  printf '# a comment\n' >comment
  for f in zeroes mbr gpt ext4 empty noise script comment; do
    [ "$(qimg info --output json "$f" | jq -r .format)" = raw ]
  done
}

@test "damaged headers are refused, or give a size that a disk can have" {
  local seed=${QIMG_SEED:-$RANDOM} kind f
  echo "QIMG_SEED=$seed"
  make_others
  for kind in vdi qed parallels qcow vhdx vpc vmdk-monolithicSparse; do
    make "$kind"
  done
  mkdir bad
  perl -MFile::Basename -e '
    my ($rounds, $seed, @files) = @ARGV;
    my @evil = ("\xff" x 8, "\0" x 8, "\x7f" . "\xff" x 7, "\0\0\0\1\0\0\0\0");
    srand $seed;
    for my $name (@files) {
      open my $in, "<:raw", $name or die;
      read $in, my $good, 4 << 20;
      for my $n (1 .. $rounds) {
        my $data = $good;
        for (0 .. rand 3) {
          # Where numbers are: after the signature, or in tables further on.
          my $at = $name =~ /vhdx/ ? (0x30000, 0x200000)[rand 2] :
            $name =~ /vpc/ && rand 2 < 1 ? 512 : 4;
          substr($data, $at + rand 120, 8) =
            substr($evil[rand @evil] x 2, rand 8, 1 + rand 8);
        }
        open my $out, ">:raw", "bad/$n." . basename $name or die;
        print $out $data or die;
      }
    }' "$(rounds 10)" "$seed" ./*.img
  for f in bad/*; do
    run_qimg info "$f"
    echo "$f: $status $stderr"
    [ "$status" = 0 ] || [[ $status == 1 && $stderr == "qimg: '$f' is "* ]]
  done
}
