/*
 * Numbers in text. They are unsigned and decimal, without sign or space. All set *out on success alone.
 */
#ifndef SPILLFS_UTIL_NUMBER_H
#define SPILLFS_UTIL_NUMBER_H

#include <stdint.h>

/* Reads the digits at *text, and moves *text behind them. -EINVAL: there are none; -ERANGE: the number has more than 64 bits. */
int number_scan(const char **text, uint64_t *out);
/* As number_scan of all of text. -EINVAL: more than digits. */
int number_parse(const char *text, uint64_t *out);
/* A number of bytes, at most INT64_MAX, with K, M, G or T behind it, in either case, for powers of 1024. -EINVAL, -ERANGE. */
int number_size(const char *text, uint64_t *out);
/* The number n, at most INT64_MAX, of a name that printf writes with "%0*llu%s" for width, n and suffix; each number has one
 * name. -EINVAL: any other name. */
int number_of_name(const char *name, unsigned width, const char *suffix, uint64_t *out);

/* The byte that two hexadecimal digits at text stand for; -1: they are not. */
int number_hex_byte(const char *text);

#endif
