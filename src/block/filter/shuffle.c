/*
 * The byte shuffle.
 *
 * Invariants: (1) shuffle_undo undoes shuffle_apply for every n and element size; (2) the vector
 * and the portable paths give the same bytes.
 *
 * The vector path takes 16 elements of E = 2^k bytes at once, in E registers. A byte's place in
 * them is a number of k + 4 bits, (element, byte) before and (byte, element) after. One round of
 * interleaving register i with register i + E/2 rotates that number left by one bit; so four rounds
 * shuffle and k rounds unshuffle.
 */
#include "block/filter/shuffle.h"

#include <string.h>

#if defined(__SSE2__) && !defined(SPILLFS_NO_SIMD)
#include <emmintrin.h>
#define HAVE_VECTOR 1

#define VECTOR_ELEMS 16
/* Else the compilers keep the registers in memory. */
#define UNROLL _Pragma("GCC unroll 16")

static inline __attribute__((always_inline)) void interleave(__m128i *v, const size_t e)
{
	__m128i t[16];

	UNROLL
	for (size_t i = 0; i < e / 2; i++) {
		t[2 * i] = _mm_unpacklo_epi8(v[i], v[i + e / 2]);
		t[2 * i + 1] = _mm_unpackhi_epi8(v[i], v[i + e / 2]);
	}
	UNROLL
	for (size_t i = 0; i < e; i++)
		v[i] = t[i];
}

static inline __attribute__((always_inline)) size_t vector_shuffle(const uint8_t *in, uint8_t *out, size_t count,
								   size_t nelems, const size_t e)
{
	size_t done = 0;

	for (; count - done >= VECTOR_ELEMS; done += VECTOR_ELEMS) {
		__m128i v[16];

		UNROLL
		for (size_t i = 0; i < e; i++)
			v[i] = _mm_loadu_si128((const __m128i *)(in + done * e + 16 * i));
		UNROLL
		for (int round = 0; round < 4; round++)
			interleave(v, e);
		UNROLL
		for (size_t i = 0; i < e; i++)
			_mm_storeu_si128((__m128i *)(out + i * nelems + done), v[i]);
	}
	return done;
}

static inline __attribute__((always_inline)) size_t vector_unshuffle(const uint8_t *in,
								     uint8_t *out, size_t count,
								     size_t nelems, const size_t e)
{
	size_t done = 0;

	for (; count - done >= VECTOR_ELEMS; done += VECTOR_ELEMS) {
		__m128i v[16];

		UNROLL
		for (size_t i = 0; i < e; i++)
			v[i] = _mm_loadu_si128((const __m128i *)(in + i * nelems + done));
		UNROLL
		for (size_t bit = 1; bit < e; bit *= 2)
			interleave(v, e);
		UNROLL
		for (size_t i = 0; i < e; i++)
			_mm_storeu_si128((__m128i *)(out + done * e + 16 * i), v[i]);
	}
	return done;
}

/* The number of elements done, from the front; the constants let the compiler unroll. */
static size_t shuffle_vectors(const uint8_t *in, uint8_t *out, size_t count, size_t nelems, uint32_t e)
{
	switch (e) {
	case 2: return vector_shuffle(in, out, count, nelems, 2);
	case 4: return vector_shuffle(in, out, count, nelems, 4);
	case 8: return vector_shuffle(in, out, count, nelems, 8);
	case 16: return vector_shuffle(in, out, count, nelems, 16);
	default: return 0;
	}
}

static size_t unshuffle_vectors(const uint8_t *in, uint8_t *out, size_t count, size_t nelems, uint32_t e)
{
	switch (e) {
	case 2: return vector_unshuffle(in, out, count, nelems, 2);
	case 4: return vector_unshuffle(in, out, count, nelems, 4);
	case 8: return vector_unshuffle(in, out, count, nelems, 8);
	case 16: return vector_unshuffle(in, out, count, nelems, 16);
	default: return 0;
	}
}
#else
#define HAVE_VECTOR 0
#endif

void shuffle_apply_part(const void *elems, size_t count, void *planes, size_t nelems, size_t first, uint32_t elem_bytes)
{
	const uint8_t *src = elems;
	uint8_t *dst = (uint8_t *)planes + first;
	size_t e = elem_bytes ? elem_bytes : 1, done = 0;

#if HAVE_VECTOR
	done = shuffle_vectors(src, dst, count, nelems, elem_bytes);
#endif
	for (size_t k = 0; k < e; k++)
		for (size_t i = done; i < count; i++)
			dst[k * nelems + i] = src[i * e + k];
}

void shuffle_undo_part(const void *planes, size_t nelems, size_t first, void *elems, size_t count, uint32_t elem_bytes)
{
	const uint8_t *src = (const uint8_t *)planes + first;
	uint8_t *dst = elems;
	size_t e = elem_bytes ? elem_bytes : 1, done = 0;

#if HAVE_VECTOR
	done = unshuffle_vectors(src, dst, count, nelems, elem_bytes);
#endif
	for (size_t i = done; i < count; i++)
		for (size_t k = 0; k < e; k++)
			dst[i * e + k] = src[k * nelems + i];
}

static void copy_tail(const void *in, void *out, size_t n, size_t tail)
{
	memcpy((uint8_t *)out + n - tail, (const uint8_t *)in + n - tail, tail);
}

void shuffle_apply(const void *in, void *out, size_t n, uint32_t elem_bytes)
{
	size_t e = elem_bytes ? elem_bytes : 1;

	shuffle_apply_part(in, n / e, out, n / e, 0, elem_bytes);
	copy_tail(in, out, n, n % e);
}

void shuffle_undo(const void *in, void *out, size_t n, uint32_t elem_bytes)
{
	size_t e = elem_bytes ? elem_bytes : 1;

	shuffle_undo_part(in, n / e, 0, out, n / e, elem_bytes);
	copy_tail(in, out, n, n % e);
}
