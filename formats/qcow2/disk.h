/* SPDX-License-Identifier: MIT */
/*
 * disk.h - qcow2 as it is on disk (docs/interop/qcow2 of QEMU)
 *
 * All integers are big endian. Section names of the specification are quoted
 * where a struct or constant comes from.
 */
#ifndef QCOW2_DISK_H
#define QCOW2_DISK_H

#include "lib/bytes.h"

#define QCOW2_MAGIC 0x514649fbu /* "QFI\xfb" */

/* "Header" */
struct qcow2_disk_header {
	be32 magic;
	be32 version;
	be64 backing_file_offset;
	be32 backing_file_size;
	be32 cluster_bits;
	be64 size;
	be32 crypt_method;
	be32 l1_size;
	be64 l1_table_offset;
	be64 refcount_table_offset;
	be32 refcount_table_clusters;
	be32 nb_snapshots;
	be64 snapshots_offset;
	/* version 3 */
	be64 incompatible_features;
	be64 compatible_features;
	be64 autoclear_features;
	be32 refcount_order;
	be32 header_length;
	/* header_length > 104 */
	uint8_t compression_type;
	uint8_t padding[7];
};
_Static_assert(offsetof(struct qcow2_disk_header, snapshots_offset) == 64,
	       "header");
_Static_assert(offsetof(struct qcow2_disk_header, header_length) == 100,
	       "header, version 3");
_Static_assert(sizeof(struct qcow2_disk_header) == 112, "header, all fields");

#define QCOW2_CRYPT_AES 1u /* crypt_method; 0: none */
#define QCOW2_CRYPT_LUKS 2u

#define QCOW2_V2_HEADER 72
#define QCOW2_V3_HEADER 104

#define QCOW2_INCOMPAT_DIRTY 1u
#define QCOW2_INCOMPAT_CORRUPT 2u
#define QCOW2_INCOMPAT_DATA_FILE 4u
#define QCOW2_INCOMPAT_COMPRESSION 8u
#define QCOW2_INCOMPAT_EXTENDED_L2 16u
#define QCOW2_COMPAT_LAZY_REFCOUNTS 1u
#define QCOW2_AUTOCLEAR_BITMAPS 1u
#define QCOW2_AUTOCLEAR_RAW_DATA 2u
#define QCOW2_AUTOCLEAR_KNOWN 3u

/* "Header extensions" */
struct qcow2_disk_extension {
	be32 type;
	be32 length; /* data follows, padded to 8 bytes */
};
_Static_assert(sizeof(struct qcow2_disk_extension) == 8, "extension");

#define QCOW2_EXT_END 0u
#define QCOW2_EXT_BACKING_FORMAT 0xe2792acau
#define QCOW2_EXT_FEATURE_NAMES 0x6803f857u
#define QCOW2_EXT_BITMAPS 0x23852875u
#define QCOW2_EXT_CRYPTO 0x0537be77u
#define QCOW2_EXT_DATA_FILE 0x44415441u
#define QCOW2_EXT_RECORD 0x51494d47u /* "QIMG": ours, see qimg-format(7) */

/* "Feature name table" */
struct qcow2_disk_feature {
	uint8_t type; /* 0 incompatible, 1 compatible, 2 autoclear */
	uint8_t bit;
	char name[46];
};
_Static_assert(sizeof(struct qcow2_disk_feature) == 48, "feature name");

/* "Bitmaps extension" */
struct qcow2_disk_bitmaps {
	be32 nb_bitmaps;
	be32 reserved;
	be64 directory_size;
	be64 directory_offset;
};
_Static_assert(sizeof(struct qcow2_disk_bitmaps) == 24, "bitmaps extension");

/* "Bitmap directory": extra data, name and padding to 8 bytes follow. */
struct qcow2_disk_bitmap {
	be64 table_offset;
	be32 table_size;
	be32 flags;
	uint8_t type;
	uint8_t granularity_bits;
	be16 name_size;
	be32 extra_data_size;
};
_Static_assert(sizeof(struct qcow2_disk_bitmap) == 24, "bitmap directory");

#define QCOW2_BITMAP_IN_USE 1u
#define QCOW2_BITMAP_AUTO 2u
#define QCOW2_BITMAP_TYPE_DIRTY 1
#define QCOW2_BITMAP_ONES 1u /* table entry without offset: all ones */

/* "Snapshots": extra data, id, name and padding to 8 bytes follow. */
struct qcow2_disk_snapshot {
	be64 l1_table_offset;
	be32 l1_size;
	be16 id_size;
	be16 name_size;
	be32 date_sec;
	be32 date_nsec;
	be64 vm_clock_nsec;
	be32 vm_state_size;
	be32 extra_data_size;
};
_Static_assert(sizeof(struct qcow2_disk_snapshot) == 40, "snapshot");

/* "Cluster mapping" */
#define QCOW2_OFFSET_MASK 0x00fffffffffffe00ull
#define QCOW2_COPIED (1ull << 63)
#define QCOW2_COMPRESSED (1ull << 62)
#define QCOW2_ZERO 1ull
#define QCOW2_SUBCLUSTERS 32
#define QCOW2_MIN_EXTENDED_CLUSTER 16384u

/* QEMU's limits, which we share. */
#define QCOW2_MIN_CLUSTER_BITS 9
#define QCOW2_MAX_CLUSTER_BITS 21
#define QCOW2_MAX_L1_BYTES (32u << 20)
#define QCOW2_MAX_REFTABLE_BYTES (8u << 20)
#define QCOW2_MAX_SNAPSHOTS 65536
#define QCOW2_MAX_SNAPSHOT_EXTRA 1024
#define QCOW2_MAX_SNAPSHOT_BYTES (64u << 20)
#define QCOW2_MAX_BITMAPS 65535
#define QCOW2_MAX_BITMAP_DIRECTORY ((uint64_t)QCOW2_MAX_BITMAPS * 1048)
#define QCOW2_MAX_BITMAP_BYTES (512u << 20)
#define QCOW2_MAX_BACKING_NAME 1023
#define QCOW2_MAX_BACKING_FORMAT 15 /* as much as QEMU takes */
/* We rewrite header, extensions and backing name by one write of this. */
#define QCOW2_HEADER_MAX 4096

#endif
