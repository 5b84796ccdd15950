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
#include "block/shuffle.h"

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

static inline __attribute__((always_inline)) size_t vector_shuffle(const uint8_t *in, uint8_t *out,
								   size_t nelems, const size_t e)
{
	size_t done = 0;

	for (; nelems - done >= VECTOR_ELEMS; done += VECTOR_ELEMS) {
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
								     uint8_t *out, size_t nelems,
								     const size_t e)
{
	size_t done = 0;

	for (; nelems - done >= VECTOR_ELEMS; done += VECTOR_ELEMS) {
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
static size_t shuffle_vectors(const uint8_t *in, uint8_t *out, size_t nelems, uint32_t e)
{
	switch (e) {
	case 2: return vector_shuffle(in, out, nelems, 2);
	case 4: return vector_shuffle(in, out, nelems, 4);
	case 8: return vector_shuffle(in, out, nelems, 8);
	case 16: return vector_shuffle(in, out, nelems, 16);
	default: return 0;
	}
}

static size_t unshuffle_vectors(const uint8_t *in, uint8_t *out, size_t nelems, uint32_t e)
{
	switch (e) {
	case 2: return vector_unshuffle(in, out, nelems, 2);
	case 4: return vector_unshuffle(in, out, nelems, 4);
	case 8: return vector_unshuffle(in, out, nelems, 8);
	case 16: return vector_unshuffle(in, out, nelems, 16);
	default: return 0;
	}
}
#else
#define HAVE_VECTOR 0
#endif

void shuffle_apply(const void *in, void *out, size_t n, uint32_t elem_bytes)
{
	const uint8_t *src = in;
	uint8_t *dst = out;
	size_t e = elem_bytes ? elem_bytes : 1;
	size_t nelems = n / e, done = 0;

#if HAVE_VECTOR
	done = shuffle_vectors(src, dst, nelems, elem_bytes);
#endif
	for (size_t k = 0; k < e; k++)
		for (size_t i = done; i < nelems; i++)
			dst[k * nelems + i] = src[i * e + k];
	memcpy(dst + nelems * e, src + nelems * e, n - nelems * e);
}

void shuffle_undo(const void *in, void *out, size_t n, uint32_t elem_bytes)
{
	const uint8_t *src = in;
	uint8_t *dst = out;
	size_t e = elem_bytes ? elem_bytes : 1;
	size_t nelems = n / e, done = 0;

#if HAVE_VECTOR
	done = unshuffle_vectors(src, dst, nelems, elem_bytes);
#endif
	for (size_t i = done; i < nelems; i++)
		for (size_t k = 0; k < e; k++)
			dst[i * e + k] = src[k * nelems + i];
	memcpy(dst + nelems * e, src + nelems * e, n - nelems * e);
}
