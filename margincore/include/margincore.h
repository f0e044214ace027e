/* margincore.h: every C layout and code of margincore, and the function table for embedders.
 *
 * C and C++: include Python.h first, call mc_import() once with the GIL held, keep the pointer.
 * Structs are frozen once released; the table grows only at its end.
 */
#ifndef MARGINCORE_H
#define MARGINCORE_H

#include <stdint.h>

#define MC_ABI_VERSION 1u

/* Status of an account.  Zero, the value of fresh memory, is UNKNOWN. */
#define MC_UNKNOWN 0
#define MC_LIQUIDATION 1
#define MC_MARGIN_CALL 2
#define MC_HEALTHY 3

/* Errors, negative returns of functions that can fail. */
#define MC_OK 0
#define MC_EROW -1
#define MC_ECOLUMN -2
#define MC_ECAPACITY -3
#define MC_EFINITE -4
#define MC_ERANGE -5
#define MC_ESHAPE -6

/* Kinds of column. */
#define MC_CASH 0
#define MC_PERPETUAL 1
#define MC_FUTURE 2
#define MC_OPTION 3

#endif
