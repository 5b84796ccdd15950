/*
 * The mark of a store, which is the text of its file SPILLFS: the version of its format, and its uuid.
 */
#ifndef SPILLFS_STORE_MARK_H
#define SPILLFS_STORE_MARK_H

#include <stddef.h>
#include <stdint.h>

#define MARK_TEXT_MAX 64
#define MARK_UUID_TEXT 37

/* A uuid for a new store. */
int mark_uuid_new(uint8_t uuid[16]);
void mark_uuid_text(const uint8_t uuid[16], char out[MARK_UUID_TEXT]);
/* Returns the number of bytes. */
size_t mark_text(unsigned version, const uint8_t uuid[16], char out[MARK_TEXT_MAX]);

/* The version that the text begins with; 0: none. What follows belongs to that version. */
unsigned mark_version(const char *text);
/* -EINVAL: it has none. */
int mark_uuid(const char *text, uint8_t uuid[16]);

#endif
