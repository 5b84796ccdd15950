/*
 * The functions of struct ints for integers of BITS bits, once more for each inclusion: ints.c defines BITS, and for which processors they are:
 * FOR, an attribute, and FOR_NAME. All loops over a group are of a constant length and without branches, so that compilers make vectors of them.
 *
 * Packed, integer i of a group is in row i / LANES of lane i % LANES, and a lane's integers stand one behind another in its words,
 * lowest bits first; word w of lane l is at w * LANES + l.
 */
#define JOIN2(a, b, c) a##b##c
#define JOIN(a, b, c) JOIN2(a, b, c)
#define NAME(what) JOIN(what, BITS, FOR_NAME)
#define UINT NAME(uint_)
#define INT NAME(sint_)
#define ROWS ((unsigned)BITS)
#define LANES (FILTER_GROUP / BITS)

typedef JOIN(uint, BITS, _t) __attribute__((may_alias)) UINT;
typedef JOIN(int, BITS, _t) __attribute__((may_alias)) INT;

FOR static void NAME(delta_)(void *group, size_t n, uint64_t *before)
{
	UINT *restrict v = group, last = (UINT)*before, next = n ? v[n - 1] : last;

	for (size_t i = n; i-- > 1;)
		v[i] = (UINT)(v[i] - v[i - 1]);
	if (n)
		v[0] = (UINT)(v[0] - last);
	*before = next;
}

FOR static void NAME(undelta_)(void *group, size_t n, uint64_t *before)
{
	UINT *restrict v = group, sum = (UINT)*before;

	for (size_t i = 0; i < n; i++) {
		sum = (UINT)(sum + v[i]);
		v[i] = sum;
	}
	*before = sum;
}

FOR static void NAME(zigzag_)(void *group)
{
	UINT *restrict v = group;

	for (size_t i = 0; i < FILTER_GROUP; i++)
		v[i] = (UINT)((UINT)(v[i] << 1) ^ (UINT)(0 - (UINT)(v[i] >> (BITS - 1))));
}

FOR static void NAME(unzigzag_)(void *group)
{
	UINT *restrict v = group;

	for (size_t i = 0; i < FILTER_GROUP; i++)
		v[i] = (UINT)((UINT)(v[i] >> 1) ^ (UINT)(0 - (UINT)(v[i] & 1)));
}

FOR static unsigned NAME(measure_)(const void *group, uint64_t *least_out)
{
	const INT *restrict v = group;
	INT least = v[0];
	uint64_t above = 0;
	UINT all = 0;

	for (size_t i = 0; i < FILTER_GROUP; i++)
		least = v[i] < least ? v[i] : least;
	for (size_t i = 0; i < FILTER_GROUP; i++)
		all |= (UINT)((UINT)v[i] - (UINT)least);
	above = all;
	*least_out = (UINT)least;
	return above ? 64 - (unsigned)__builtin_clzll(above) : 0;
}

FOR static void NAME(pack_)(const void *group, uint64_t least, unsigned bits, void *out)
{
	const UINT *restrict v = group;
	UINT word[LANES] = { 0 }, low = (UINT)least;
	uint8_t *to = out;
	unsigned used = 0;

	for (unsigned row = 0; row < ROWS && bits; row++) {
		for (unsigned l = 0; l < LANES; l++)
			word[l] |= (UINT)((UINT)(v[row * LANES + l] - low) << used);
		used += bits;
		if (used < BITS)
			continue;
		memcpy(to, word, sizeof(word));
		to += sizeof(word);
		used -= BITS;
		for (unsigned l = 0; l < LANES; l++) /* twice, since a shift by BITS is not defined */
			word[l] = (UINT)((UINT)((UINT)(v[row * LANES + l] - low) >> (bits - used - 1)) >> 1);
	}
}

FOR static void NAME(unpack_)(const void *in, uint64_t least, unsigned bits, void *group)
{
	UINT *restrict v = group, word[LANES] = { 0 }, low = (UINT)least, mask = (UINT)(bits ? (UINT)~(UINT)0 >> (BITS - bits) : 0);
	const uint8_t *from = in;
	unsigned left = 0; /* bits of the words that are still to come */

	for (unsigned row = 0; row < ROWS; row++) {
		UINT value[LANES];

		for (unsigned l = 0; l < LANES; l++)
			value[l] = left ? (UINT)(word[l] >> (BITS - left)) : 0;
		if (left < bits) {
			for (unsigned l = 0; l < LANES; l++) {
				memcpy(&word[l], from + l * sizeof(UINT), sizeof(UINT)); /* all at once would go through memory */
				value[l] |= (UINT)(word[l] << left);
			}
			from += sizeof(word);
			left += BITS;
		}
		left -= bits;
		for (unsigned l = 0; l < LANES; l++)
			v[row * LANES + l] = (UINT)((value[l] & mask) + low);
	}
}

FOR static void NAME(narrow8_)(const void *wide, void *group)
{
	const uint64_t *restrict from = wide;
	UINT *restrict v = group;

	for (size_t i = 0; i < FILTER_GROUP; i++)
		v[i] = (UINT)from[i];
}

FOR static void NAME(narrow4_)(const void *wide, void *group)
{
	const uint32_t *restrict from = wide;
	UINT *restrict v = group;

	for (size_t i = 0; i < FILTER_GROUP; i++)
		v[i] = (UINT)from[i];
}

FOR static void NAME(to_f64_)(const void *group, double divisor, void *out)
{
	const INT *restrict v = group;
	double *restrict to = out;

	for (size_t i = 0; i < FILTER_GROUP; i++)
		to[i] = (double)v[i] / divisor;
}

FOR static void NAME(to_f32_)(const void *group, double divisor, void *out)
{
	const INT *restrict v = group;
	float *restrict to = out;

	for (size_t i = 0; i < FILTER_GROUP; i++)
		to[i] = (float)((double)v[i] / divisor);
}

static const struct ints NAME(ints_) = {
	NAME(delta_), NAME(undelta_), NAME(zigzag_), NAME(unzigzag_), NAME(measure_), NAME(pack_), NAME(unpack_),
	NAME(narrow8_), NAME(narrow4_), NAME(to_f64_), NAME(to_f32_),
};

#undef JOIN2
#undef JOIN
#undef NAME
#undef UINT
#undef INT
#undef ROWS
#undef LANES
#undef BITS
