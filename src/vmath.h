/* vmath.h: branch-free vector mathematics, inline functions that compilers vectorise; the same bits everywhere. */
#ifndef MC_VMATH_H
#define MC_VMATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#endif
