/* SPDX-License-Identifier: MIT */
/*
 * crypto.c - what can be said of an encrypted image without its key
 *
 * Version 1 of LUKS keeps one header with eight key slots; in a qcow2 image
 * it is where the header extension says (docs/interop/qcow2, "Full disk
 * encryption header pointer"). The older method has no header at all.
 */
#include <stdio.h>

#include "formats/qcow2/qcow2.h"

#define LUKS_MAGIC "LUKS\xba\xbe"
#define LUKS_SLOTS 8
#define LUKS_SLOT_ACTIVE 0x00ac71f3u
#define LUKS_SECTOR 512ull

/* "LUKS On-Disk Format Specification", version 1.2.3, figure 1 and 2 */
struct luks_slot {
	be32 active;
	be32 iterations;
	uint8_t salt[32];
	be32 key_offset; /* sectors */
	be32 stripes;
};

struct luks_header {
	char magic[6];
	be16 version;
	char cipher[32];
	char mode[32]; /* "xts-plain64", "cbc-essiv:sha256" */
	char hash[32];
	be32 payload_offset; /* sectors */
	be32 key_bytes;
	uint8_t digest[20];
	uint8_t salt[32];
	be32 iterations;
	char uuid[40];
	struct luks_slot slot[LUKS_SLOTS];
};
_Static_assert(sizeof(struct luks_slot) == 48, "LUKS slot");
_Static_assert(sizeof(struct luks_header) == 592, "LUKS header");

static bool read_luks(struct qcow2 *q, struct luks_header *h)
{
	const struct qcow2_extension *x =
		qcow2_header_find(&q->h, QCOW2_EXT_CRYPTO);
	be64 place[2]; /* offset and length */

	if (!x || x->len != sizeof(place))
		return false;
	memcpy(place, x->data, sizeof(place));
	return be64_get(place[1]) >= sizeof(*h) &&
	       !qi_file_read(q->file, be64_get(place[0]), sizeof(*h), h,
			     NULL) &&
	       !memcmp(h->magic, LUKS_MAGIC, sizeof(h->magic)) &&
	       be16_get(h->version) == 1;
}

static void say_luks_slot(const struct qcow2_details *d,
			  const struct luks_slot *s)
{
	bool active = be32_get(s->active) == LUKS_SLOT_ACTIVE;

	qcow2_say_group(d, QI_FACT_GROUP, NULL, NULL);
	qcow2_say_bool(d, "active", "active", active);
	if (active)
		qcow2_say_uint(d, "iters", "iters", be32_get(s->iterations));
	qcow2_say_uint(d, "key-offset", "key offset",
		       be32_get(s->key_offset) * LUKS_SECTOR);
	if (active)
		qcow2_say_uint(d, "stripes", "stripes", be32_get(s->stripes));
	qcow2_say_group(d, QI_FACT_END, NULL, NULL);
}

/* "xts-plain64" is a mode and how initial vectors are made, and with what. */
static void say_luks(const struct qcow2_details *d, const struct luks_header *h)
{
	char mode[sizeof(h->mode) + 1], hash[sizeof(h->hash) + 1];
	char uuid[sizeof(h->uuid) + 1], cipher[64];
	char *ivgen, *ivgen_hash;
	unsigned bits = be32_get(h->key_bytes) * 8;

	snprintf(mode, sizeof(mode), "%.32s", h->mode);
	snprintf(hash, sizeof(hash), "%.32s", h->hash);
	snprintf(uuid, sizeof(uuid), "%.40s", h->uuid);
	ivgen = strchr(mode, '-');
	if (ivgen)
		*ivgen++ = '\0';
	ivgen_hash = ivgen ? strchr(ivgen, ':') : NULL;
	if (ivgen_hash)
		*ivgen_hash++ = '\0';
	/* This mode has two keys of the size that the cipher is named after. */
	snprintf(cipher, sizeof(cipher), "%.32s-%u", h->cipher,
		 strcmp(mode, "xts") ? bits : bits / 2);
	qcow2_say_text(d, "ivgen-alg", "ivgen alg", ivgen);
	qcow2_say_text(d, "ivgen-hash-alg", "ivgen hash alg", ivgen_hash);
	qcow2_say_text(d, "hash-alg", "hash alg", hash);
	qcow2_say_text(d, "cipher-alg", "cipher alg", cipher);
	qcow2_say_text(d, "uuid", "uuid", uuid);
	qcow2_say_text(d, "format", "format", "luks");
	qcow2_say_text(d, "cipher-mode", "cipher mode", mode);
	qcow2_say_group(d, QI_FACT_LIST, "slots", "slots");
	for (unsigned i = 0; i < LUKS_SLOTS; i++)
		say_luks_slot(d, &h->slot[i]);
	qcow2_say_group(d, QI_FACT_END, NULL, NULL);
	qcow2_say_uint(d, "payload-offset", "payload offset",
		       be32_get(h->payload_offset) * LUKS_SECTOR);
	qcow2_say_uint(d, "master-key-iters", "master key iters",
		       be32_get(h->iterations));
}

void qcow2_say_crypto(struct qcow2 *q, const struct qcow2_details *d)
{
	struct luks_header h;

	if (!q->h.crypt_method)
		return;
	qcow2_say_group(d, QI_FACT_GROUP, "encrypt", "encrypt");
	if (q->h.crypt_method == QCOW2_CRYPT_LUKS && read_luks(q, &h))
		say_luks(d, &h);
	else
		qcow2_say_text(d, "format", "format",
			       q->h.crypt_method == QCOW2_CRYPT_LUKS ? "luks" :
								       "aes");
	qcow2_say_group(d, QI_FACT_END, NULL, NULL);
}
