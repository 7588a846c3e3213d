#!/usr/bin/env bats
# Programs that call qemu-img, as Debian packages them, with qimg in its place:
# libvirt, Packer and genimage. Between them they create, convert, resize and
# take snapshots.
#
# Each runs twice in the same folder, with qimg and with QEMU's tool: the command
# lines that it makes, what it says, and all that can be seen of the images have
# to be the same. Nothing of it is changed or set: it finds a qemu-img in the
# first folder of PATH, which notes how it was called and is the one or the other.

load ../../helpers

stock=$(command -v qemu-img)

# What failed has said why.
teardown() {
  [ -n "$BATS_TEST_COMPLETED" ] || cat said.* 2>/dev/null || true
}

# in_place_for PROGRAM: it will find what `twice` chooses under that name.
in_place_for() {
  command -v "$1" >/dev/null || skip "there is no $1"
  mkdir -p bin/chosen
  # shellcheck disable=SC2016 # the script expands them
  printf '#!/bin/sh\n%s\n' \
    'printf "%s\n" "$*" >>"${0%/*}/../calls"' \
    'exec "${0%/*}/chosen/qemu-img" "$@"' >bin/qemu-img
  chmod +x bin/qemu-img
  PATH=$PWD/bin:$PATH
}

# twice WORK: that function has the program work in ./work, with either tool, and
# says what came of it. The calls that it makes are on stdin, ./work as /.
twice() {
  local tool name
  sed "s|\([ =]\)/|\1$PWD/work/|g" >calls.expected
  for tool in "$stock" "$QIMG"; do
    name=${tool##*/}
    rm -rf work calls
    mkdir work
    ln -sfn "$tool" bin/chosen/qemu-img
    "$1" >"said.$name" 2>&1
    mv calls "calls.$name"
  done
  diff -u calls.expected calls.qimg
  diff -u calls.qemu-img calls.qimg
  diff -u said.qemu-img said.qimg
}

# seen_of IMG...: what is in the images: content, layout, snapshots. Not when
# they were made, and how much of the file system they take. They are sound.
seen_of() {
  local img format
  for img; do
    format=$(format_of "$img")
    stat -c '%n %a' "$img"
    [ "$format" = raw ] || "$stock" check -q "$img"
    "$stock" convert -f "$format" -O raw "$img" content
    sha256sum <content
    "$stock" info -f "$format" "$img" |
      sed -E '/^disk size:/d
        s/[0-9-]{10} [0-9:]{8} +[0-9:.]{12}/WHEN/'
  done
}

# start_libvirt: the daemon of a user, in ./work. It ends with the test.
start_libvirt() {
  local n
  # Root's would be the system's.
  as=()
  [ "$(id -u)" != 0 ] || as=(unshare --map-user=65534 --)
  mkdir -p work/run work/pool cache drivers
  # Others want a system: a bus, udev, a network.
  ln -sf /usr/lib*/{,*/}libvirt/connection-driver/libvirt_driver_{qemu,storage}.so \
    drivers
  export HOME=$PWD/work XDG_RUNTIME_DIR=$PWD/work/run
  export XDG_CONFIG_HOME=$PWD/work/etc XDG_CACHE_HOME=$PWD/cache
  export LIBVIRT_DRIVER_DIR=$PWD/drivers
  export LIBVIRT_DEFAULT_URI='qemu:///session?mode=legacy'
  setpriv --pdeathsig TERM "${as[@]}" libvirtd >libvirtd.log 2>&1 3>&- &
  LIBVIRT_PID=$!
  for ((n = 0; n < 500; n++)); do
    if [ -S work/run/libvirt/libvirt-sock ]; then return 0; fi
    kill -0 "$LIBVIRT_PID" 2>/dev/null || break
    sleep 0.02
  done
  echo "start_libvirt: it does not:"
  cat libvirtd.log
  return 1
}

stop_libvirt() {
  kill "$LIBVIRT_PID"
  wait "$LIBVIRT_PID"
}

# virsh_of: runs the commands on stdin, all of them, and says how each went.
virsh_of() {
  local command
  while read -r command; do
    echo "virsh # $command"
    "${as[@]}" virsh -q "$command" 2>&1 || echo "exit code $?"
  done
}

# Volumes in all the ways that a pool has: new, with space for metadata, on a
# backing file, made of others, cloned, made larger and smaller, refused.
work_volumes() {
  start_libvirt
  mkpattern work/pool/base.raw 3M 6
  cat >work/fine.xml <<'XML'
<volume>
  <name>fine.qcow2</name>
  <capacity unit='MiB'>4</capacity>
  <target>
    <format type='qcow2'/>
    <compat>1.1</compat>
    <features><lazy_refcounts/></features>
    <clusterSize unit='KiB'>16</clusterSize>
  </target>
</volume>
XML
  cat >work/again.xml <<'XML'
<volume>
  <name>again.raw</name>
  <capacity unit='MiB'>5</capacity>
  <target><format type='raw'/></target>
</volume>
XML
  virsh_of <<COMMANDS
pool-create-as p dir --target $PWD/work/pool
vol-create-as p new.qcow2 64M --format qcow2
vol-create-as p meta.qcow2 8M --format qcow2 --prealloc-metadata
vol-create-as p over.qcow2 5M --format qcow2 --backing-vol base.raw --backing-vol-format raw
vol-create-from p work/fine.xml base.raw --inputpool p
vol-clone fine.qcow2 clone.qcow2 --pool p
vol-clone over.qcow2 flat.qcow2 --pool p
vol-create-from p work/again.xml over.qcow2 --inputpool p
vol-resize new.qcow2 96M --pool p
vol-resize new.qcow2 32M --pool p --shrink
vol-resize new.qcow2 1M --pool p --delta
COMMANDS
  "$stock" snapshot -c s work/pool/meta.qcow2
  virsh_of <<COMMANDS
vol-resize meta.qcow2 9M --pool p
vol-create-as p gone.qcow2 9M --format qcow2 --backing-vol base.raw --backing-vol-format qcow2
vol-list p
COMMANDS
  seen_of work/pool/*
  stop_libvirt
}

@test "libvirt: volumes of a storage pool" {
  in_place_for libvirtd
  twice work_volumes <<'CALLS'
create -f qcow2 -o compat=0.10 /pool/new.qcow2 65536K
create -f qcow2 -o preallocation=falloc,compat=0.10 /pool/meta.qcow2 8192K
create -f qcow2 -b /pool/base.raw -o backing_fmt=raw,compat=0.10 /pool/over.qcow2 5120K
convert -f raw -O qcow2 -o compat=1.1,cluster_size=16384,lazy_refcounts /pool/base.raw /pool/fine.qcow2
convert -f qcow2 -O qcow2 -o compat=1.1,cluster_size=16384,lazy_refcounts /pool/fine.qcow2 /pool/clone.qcow2
convert -f qcow2 -O qcow2 -o compat=0.10 /pool/over.qcow2 /pool/flat.qcow2
convert -f qcow2 -O raw /pool/over.qcow2 /pool/again.raw
resize /pool/new.qcow2 100663296
resize --shrink /pool/new.qcow2 33554432
resize /pool/new.qcow2 34603008
resize /pool/meta.qcow2 9437184
create -f qcow2 -b /pool/base.raw -o backing_fmt=qcow2,compat=0.10 /pool/gone.qcow2 9216K
CALLS
}

# Snapshots of a machine that is off: within its disks, and as a new overlay.
work_snapshots() {
  local disk
  start_libvirt
  for disk in a b; do
    "$stock" create -q -f qcow2 work/pool/$disk.qcow2 4M
  done
  cat >work/machine.xml <<XML
<domain type='qemu'>
  <name>m</name>
  <memory unit='MiB'>64</memory>
  <os><type>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='$PWD/work/pool/a.qcow2'/>
      <target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/>
      <source file='$PWD/work/pool/b.qcow2'/>
      <target dev='vdb' bus='virtio'/>
    </disk>
  </devices>
</domain>
XML
  qemu-io -c "write -q -P 1 0 1M" work/pool/a.qcow2
  virsh_of <<COMMANDS
define work/machine.xml
snapshot-create-as m one
COMMANDS
  qemu-io -c "write -q -P 2 512k 1M" work/pool/a.qcow2
  qemu-io -c "write -q -P 3 512k 1M" work/pool/b.qcow2
  virsh_of <<COMMANDS
snapshot-create-as m two
snapshot-revert m one
COMMANDS
  seen_of work/pool/*
  virsh_of <<COMMANDS
snapshot-revert m two
snapshot-delete m one
snapshot-create-as m out --disk-only --diskspec vda,file=$PWD/work/pool/over.qcow2 --diskspec vdb,snapshot=no
domblklist m
COMMANDS
  seen_of work/pool/*
  stop_libvirt
}

@test "libvirt: snapshots of a machine" {
  in_place_for libvirtd
  twice work_snapshots <<'CALLS'
snapshot -c one /pool/a.qcow2
snapshot -c one /pool/b.qcow2
snapshot -c two /pool/a.qcow2
snapshot -c two /pool/b.qcow2
snapshot -a one /pool/a.qcow2
snapshot -a one /pool/b.qcow2
snapshot -a two /pool/a.qcow2
snapshot -a two /pool/b.qcow2
snapshot -d one /pool/a.qcow2
snapshot -d one /pool/b.qcow2
create -f qcow2 -o backing_fmt=qcow2,backing_file=/pool/a.qcow2 /pool/over.qcow2
CALLS
}

# An image of a machine: a copy of a disk is made larger, the machine runs from
# it, and what that leaves is packed. This machine writes the first sector over
# the third one, through the BIOS, and turns itself off.
work_packer() {
  perl -e 'print pack("a510 v", pack("H*", join "",
    "b80103",         # mov ax, 0x0301: write one sector
    "b90300",         # mov cx, 3: the third one
    "ba8000",         # mov dx, 0x80: of the first disk
    "bb007c",         # mov bx, 0x7c00: from where this is
    "cd13",           # int 0x13
    "ba0406b80020ef", # out 0x604, 0x2000: ACPI, to sleep in state S5
    "f4ebfd"),        # hlt, for ever
    0xaa55)' >work/boot.raw
  truncate -s 2M work/boot.raw
  cat >work/machine.json <<'JSON'
{"builders": [{
  "type": "qemu", "accelerator": "tcg", "memory": 32,
  "headless": true, "disable_vnc": true, "qemuargs": [["-net", "none"]],
  "disk_image": true, "iso_url": "boot.raw", "iso_checksum": "none",
  "format": "qcow2", "disk_size": "8M", "disk_additional_size": ["3M"],
  "disk_compression": true, "vm_name": "disk.qcow2", "output_directory": "out",
  "communicator": "none", "boot_wait": "-1s", "shutdown_timeout": "60s"
}]}
JSON
  # Not which port it chooses, nor how long it takes.
  (
    cd work || exit
    HOME=$PWD CHECKPOINT_DISABLE=1 packer build -color=false machine.json
  ) | sed '/port\|vnc:/d; s/after [0-9].*/after a while/'
  qemu-io -r -c "read -v 1024 24" work/out/disk.qcow2 | grep '^0'
  seen_of work/out/*
}

@test "packer: an image of a machine that has run" {
  in_place_for packer
  twice work_packer <<'CALLS'
create -f qcow2 out/disk.qcow2-1 3M
convert -O qcow2 /boot.raw out/disk.qcow2
resize -f qcow2 out/disk.qcow2 8M
convert -c -O qcow2 out/disk.qcow2 out/disk.qcow2.convert
CALLS
}

# A disk of two partitions, packed; then two images of different formats as one.
work_genimage() {
  mkdir work/in work/root
  mkpattern work/in/one 700K 1
  mkpattern work/in/two 300K 2
  cat >work/genimage.cfg <<'CONFIG'
image disk.raw {
  hdimage {
    disk-signature = 0x12345678
  }
  partition one {
    image = "one"
    partition-type = 0x83
  }
  partition two {
    image = "two"
    partition-type = 0x83
  }
}
image disk.qcow2 {
  qemu {
    extraargs = "-c -o cluster_size=4k"
  }
  partition all {
    image = "disk.raw"
  }
}
image joined.raw {
  qemu {
    format = "raw"
  }
  partition one {
    image = "one"
  }
  partition two {
    image = "disk.qcow2"
  }
}
CONFIG
  (
    cd work || exit
    genimage --config genimage.cfg --inputpath in --rootpath root \
      --outputpath out --tmppath tmp
  )
  cat work/in/one work/out/disk.raw | cmp - work/out/joined.raw
  seen_of work/out/*
}

@test "genimage: a disk of partitions, and images joined" {
  in_place_for genimage
  twice work_genimage <<'CALLS'
convert -c -o cluster_size=4k -O qcow2 /out/disk.raw /out/disk.qcow2
convert -O raw /in/one /out/disk.qcow2 /out/joined.raw
CALLS
}
