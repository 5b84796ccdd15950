#include "view/formats.h"

int npy_lay(struct view *v, const struct view_input *in)
{
	(void)in;
	return view_end(v);
}
