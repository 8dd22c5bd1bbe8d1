// The target is its header; a C target needs a source file.
#include "vector_instructions.h"
