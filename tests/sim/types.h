/*
 * Settings of arrays, which OP_TYPE sets: element types, codecs, filters; and elements as OP_WALK writes them, which filters take: prices,
 * time stamps, records.
 */
#ifndef SPILLFS_SIM_TYPES_H
#define SPILLFS_SIM_TYPES_H

#include <stddef.h>
#include <stdint.h>

#define TYPES_ALIGN 16u

/* A value is a number; 0 is the default, be it stored or not. */
enum { SETTING_DTYPE, SETTING_CODEC, SETTING_FILTER, SETTINGS };

struct op;
struct content;

unsigned types_setting_of(const struct op *o);
uint8_t types_value_of(const struct op *o);
const char *types_setting_name(unsigned setting);
const char *types_text(unsigned setting, uint8_t value);
/* NULL is the default, what is none of them UINT8_MAX. */
uint8_t types_find(unsigned setting, const char *text);
/* Bytes of an element of the file. */
size_t types_bytes(const struct content *c);
/* Bytes of OP_WALK: elements of a kind that op.to says. */
void types_fill(const struct op *o, unsigned char *p, size_t n);

#endif
