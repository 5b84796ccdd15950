/*
 * See types.h.
 */
#include "types.h"

#include <string.h>

#include "model.h"
#include "sched.h"
#include "spillfs.h"

#define VALUES_MAX 10u
#define ELEMENTS 4u /* the types that OP_WALK writes, behind the default */

static const char *const names[SETTINGS] = { SPILLFS_XATTR_DTYPE, SPILLFS_XATTR_CODEC, SPILLFS_XATTR_FILTER };
/* Names end with .u8. */
static const char *const values[SETTINGS][VALUES_MAX] = {
	{ "u8", "f64", "i64", "pos:u32,lcp:u32", "t:i64,p:f64,q:u32", "i32", "u16" },
	{ "auto", "none", "pack", "zstd:1", "zstd:6", "zstd:-3" },
	{ "auto", "none", "shuffle", "delta+shuffle", "scale+delta+pack", "delta+zigzag+pack", "pack", "delta+pack", "record" },
};
static const size_t bytes[VALUES_MAX] = { 1, 8, 8, 8, 20, 4, 2 };

static unsigned element_of(const struct op *o)
{
	return 1 + o->to % ELEMENTS;
}

static unsigned count(unsigned setting)
{
	unsigned n = 0;

	while (n < VALUES_MAX && values[setting][n])
		n++;
	return n;
}

unsigned types_setting_of(const struct op *o)
{
	return o->tag % SETTINGS;
}

/* Half of the types are those of what is written there. */
uint8_t types_value_of(const struct op *o)
{
	unsigned setting = types_setting_of(o);

	if (setting == SETTING_DTYPE && o->tag / 8 % 2)
		return (uint8_t)element_of(o);
	return (uint8_t)(o->tag / 16 % count(setting));
}

const char *types_setting_name(unsigned setting)
{
	return names[setting];
}

const char *types_text(unsigned setting, uint8_t value)
{
	return values[setting][value];
}

uint8_t types_find(unsigned setting, const char *text)
{
	for (unsigned k = 0; k < count(setting); k++) {
		if (!text || !strcmp(text, values[setting][k]))
			return (uint8_t)k;
	}
	return UINT8_MAX;
}

size_t types_bytes(const struct content *c)
{
	return bytes[c->setting[SETTING_DTYPE]];
}

struct record {
	int64_t time;
	double price;
	uint32_t amount;
};

static void put(unsigned char *at, unsigned element, const struct record *r, uint64_t x)
{
	uint32_t pair[2] = { (uint32_t)(r->time / 1000), (uint32_t)(x % 100) };

	switch (element) {
	case 1:
		memcpy(at, &r->price, 8);
		break;
	case 2:
		memcpy(at, &r->time, 8);
		break;
	case 3:
		memcpy(at, pair, 8);
		break;
	default:
		memcpy(at, &r->time, 8);
		memcpy(at + 8, &r->price, 8);
		memcpy(at + 16, &r->amount, 4);
	}
}

/* A walk: time goes on, the price moves by cents. */
void types_fill(const struct op *o, unsigned char *p, size_t n)
{
	unsigned element = element_of(o);
	uint64_t state = o->tag, x = sim_random(&state);
	int64_t cents = (int64_t)(x % 100000);
	struct record r = { .time = (int64_t)(x % 1000000007) };
	unsigned char one[20];

	for (size_t at = 0; at < n; at += bytes[element]) {
		x = sim_random(&state);
		cents += (int64_t)(x % 21) - 10;
		r.time += (int64_t)(x >> 8 & 1023);
		r.price = (double)cents / 100;
		r.amount = (uint32_t)(x >> 32) % 500;
		put(one, element, &r, x >> 20);
		memcpy(p + at, one, n - at < bytes[element] ? n - at : bytes[element]);
	}
}
