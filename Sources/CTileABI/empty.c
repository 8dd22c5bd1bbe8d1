// The target is its header; a C target needs a source file.
#include "tile_abi.h"
