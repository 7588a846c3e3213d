# What the fixtures of the tables are made with; QEMU makes them. A table says
# `= images NAME...`; each has about 1 MiB, the less the faster.
# shellcheck shell=bash

# shellcheck source=tests/formats/common.bash
. "$QIMG_SRC/tests/formats/common.bash"

# new NAME [OPTION...] SIZE: a qcow2 image without data.
new() {
  qemu-img create -q -f qcow2 "${@:2:$#-2}" "$1" "${!#}"
}

# io NAME COMMAND...: what qemu-io does to it; *.raw is raw.
io() {
  local name=$1 command format=qcow2 commands=()
  shift
  [[ $name != *.raw ]] || format=raw
  for command; do commands+=(-c "$command"); done
  qemu-io -f $format "${commands[@]}" "$name" >/dev/null
}

# Data of all kinds in the first half.
fill() {
  io "$1" 'write -P 1 64k 100k' 'write -z 256k 64k' 'write -P 2 300k 4k' \
    'write -z -u 320k 64k' 'write -P 3 448k 64k'
}

image_raw() { # disk.raw
  truncate -s 1M disk.raw
  io disk.raw 'write -P 1 64k 100k' 'write -z 256k 64k' 'write -P 2 300k 4k'
}

image_odd() { # odd.raw: its size is no multiple of a sector
  printf %04000d 7 >odd.raw
  truncate -s 100001 odd.raw
}

image_a() { # a.qcow2: data of all kinds, compressed clusters too
  new a.qcow2 1M
  fill a.qcow2
  io a.qcow2 'write -c -P 4 512k 64k' 'write -c -P 5 640k 64k'
}

image_empty() { # empty.qcow2
  new empty.qcow2 1M
}

image_chain() { # base.qcow2 < mid.qcow2 < top.qcow2, which is longer
  new base.qcow2 1M
  io base.qcow2 'write -P 17 0 256k'
  new mid.qcow2 -b base.qcow2 -F qcow2 1M
  io mid.qcow2 'write -P 18 64k 128k' 'write -z 192k 64k'
  new top.qcow2 -b mid.qcow2 -F qcow2 1536k
  io top.qcow2 'write -P 19 128k 64k' 'write -P 20 1100k 10k'
}

image_old() { # old.qcow2: version 2
  new old.qcow2 -o compat=0.10 1M
  io old.qcow2 'write -P 1 64k 100k' 'write -c -P 4 512k 64k'
}

image_small() { # small.qcow2: small clusters
  new small.qcow2 -o cluster_size=4k,refcount_bits=64 256k
  io small.qcow2 'write -P 1 10k 50k' 'write -z 100k 8k' \
    'write -c -P 4 120k 4k'
}

image_extended() { # extended.qcow2: subclusters
  new extended.qcow2 -o extended_l2=on,cluster_size=64k 1M
  io extended.qcow2 'write -P 1 66k 20k' 'write -z 256k 6k' \
    'write -P 2 300k 4k'
}

image_zstd() { # zstd.qcow2
  new zstd.qcow2 -o compression_type=zstd,lazy_refcounts=on 1M
  io zstd.qcow2 'write -c -P 1 64k 128k'
}

image_data() { # data.qcow2 has its data in data.raw
  new data.qcow2 -o data_file=data.raw,data_file_raw=on 1M
  io data.qcow2 'write -P 1 64k 128k'
}

image_snap() { # snap.qcow2: snapshots one and two
  new snap.qcow2 1M
  io snap.qcow2 'write -P 1 0 128k'
  qemu-img snapshot -c one snap.qcow2
  io snap.qcow2 'write -P 2 64k 128k'
  qemu-img snapshot -c two snap.qcow2
  io snap.qcow2 'write -P 3 256k 64k'
}

image_bits() { # bits.qcow2: bitmaps all, off (disabled), fine
  new bits.qcow2 1M
  qemu-img bitmap --add bits.qcow2 all
  qemu-img bitmap --add --disable bits.qcow2 off
  qemu-img bitmap --add -g 4k bits.qcow2 fine
  io bits.qcow2 'write -P 1 0 4k' 'write -P 2 128k 64k' 'write -P 3 300k 9k'
}

# Damage that a check finds: leak, a refcount of 0, an overlap.
image_damaged() { # leaky.qcow2, lost.qcow2, shared.qcow2
  local name
  for name in leaky lost shared; do
    new $name.qcow2 1M
    io $name.qcow2 'write -P 1 0 256k'
  done
  # Refcount block in the third cluster, the L2 table in the fifth.
  truncate -s 704k leaky.qcow2
  poke_be leaky.qcow2 $((0x20000 + 2 * 9)) 2 1
  poke_be leaky.qcow2 $((0x20000 + 2 * 10)) 2 1
  poke_be lost.qcow2 $((0x20000 + 2 * 6)) 2 0
  poke_be shared.qcow2 $((0x40000 + 8)) 8 $((0x8000000000050000))
}

image_other() { # images of formats that are not qcow2 or raw
  local format
  for format in vmdk vdi vpc vhdx qed parallels qcow; do
    qemu-img create -q -f $format other.$format 1M
  done
}

images() {
  local name
  for name; do "image_$name"; done
}
