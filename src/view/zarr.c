#include "view/formats.h"


