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

/* Outcome of an implied volatility. */
#define MC_VOL_UNKNOWN 0
#define MC_VOL_OK 1
#define MC_VOL_AT_INTRINSIC 2
#define MC_VOL_BELOW_INTRINSIC 3
#define MC_VOL_ABOVE_MAXIMUM 4
#define MC_VOL_NOT_FINITE 5
#define MC_VOL_EXPIRED 6
#define MC_VOL_OUT_OF_RANGE 7
#define MC_VOL_TOO_SMALL 8

/* What the market plane knows of one column: one cache line, read by every row that holds it. */
typedef struct mc_column {
    double value;        /* settlement asset per contract at the mark; cash 1, NaN when unknown */
    double owed;         /* 1 when quantity times value owes the entry; 0 for cash, and options, which are paid up front */
    double notional;     /* settlement asset per contract that tiers count, positive */
    double charge_short; /* base currency per contract held or sold short */
    double charge_any;   /* base currency per contract held, either side */
    double floor_short;  /* base currency per contract, least requirement of a short */
    int32_t settle;      /* column of the settlement asset */
    int32_t group;       /* risk group: its underlying */
    int32_t set;         /* offset set of the group, -1 when no scenario moves it */
    int32_t kind;        /* MC_CASH ... MC_OPTION */
} mc_column;

/* What the market plane knows of one asset. */
typedef struct mc_asset {
    double spot;     /* base currency per unit, NaN when unknown */
    double kept;     /* share of a positive value that counts as collateral: 1 - haircut */
    int32_t shocked; /* 1 when scenarios move it; it then keeps its haircut out of equity by the model's choice */
    int32_t spare;
} mc_asset;

typedef struct mc_market {
    const mc_column *column;
    const mc_asset *asset;
    const double *risk; /* [columns][stride]: base currency per contract in each scenario, padded with zeros */
    int32_t columns, assets, scenarios, stride;
} mc_market;

/* The slots of one account, sorted by set, group and column. */
typedef struct mc_row {
    int32_t *instrument;
    double *quantity;   /* contracts, signed; units of the asset in a cash column */
    double *entry;      /* sum of quantity times unit value at the trade, settlement asset */
    double *order_buy;  /* contracts resting, at least 0; NULL when the row has no orders */
    double *order_sell;
    double initial_rate; /* 1 / leverage the account chose, 0 when it chose none */
    const double *asset_equity; /* [assets]: settlement-asset equity, filled before the stages run */
    int32_t count, capacity;
    int32_t maintenance_only; /* 1 when nobody asks for initial margin: a stage may leave it at zero */
    int32_t spare;
} mc_row;

/* What one stage asks of one row, base currency. */
typedef struct mc_amount {
    double maintenance;
    double initial; /* positions alone */
    double orders;  /* further initial margin if the worse side of the open orders fills */
} mc_amount;

/* A stage of a margin plan: reads, never writes, a row. */
typedef void (*mc_stage)(const mc_row *row, const mc_market *market, const void *parameters, mc_amount *amount);

typedef struct mc_result {
    double equity, initial, maintenance; /* base currency */
    int32_t status, spare;
} mc_result;

/* A MarginBook; opaque.  Its capsule, margincore.kernels.capi.book_capsule(book), gives the pointer and keeps it alive. */
typedef struct mc_book mc_book;
#define MC_BOOK_CAPSULE "margincore.book"

/* The function table.  Functions that take a book return MC_OK or a negative code and never need the GIL; a book has
 * one writer at a time, readers may share it while nobody writes. */
typedef struct mc_api {
    uint32_t abi_version, struct_size;
    double (*normal_cdf)(double x);
    double (*black76)(double forward, double strike, double years, double sigma, int is_call);
    double (*black76_inverse)(double forward, double strike, double years, double sigma, int is_call);
    int (*book_check)(const mc_book *book, int64_t row, mc_result *out);
    int (*book_what_if)(const mc_book *book, int64_t row, int32_t column, double quantity, double price, double fee,
                        mc_result *out);
    int (*book_trade)(mc_book *book, int64_t row, int32_t column, double quantity, double price, double fee);
    int (*book_deposit)(mc_book *book, int64_t row, int32_t asset, double amount);
} mc_api;

#ifdef Py_PYTHON_H
#define MC_API_CAPSULE "margincore.kernels.capi.table"

/* Needs the GIL.  NULL with a Python exception when margincore is missing or its interface does not fit. */
static inline const mc_api *mc_import(void)
{
    const mc_api *api = NULL;
    PyObject *module = PyImport_ImportModule("margincore.kernels.capi");
    PyObject *table = module ? PyObject_GetAttrString(module, "table") : NULL;
    if (table != NULL)
        api = (const mc_api *)PyCapsule_GetPointer(table, MC_API_CAPSULE);
    Py_XDECREF(table);
    Py_XDECREF(module);
    if (api != NULL && (api->abi_version != MC_ABI_VERSION || api->struct_size < sizeof(mc_api))) {
        PyErr_SetString(PyExc_ImportError, "margincore: incompatible C interface version");
        api = NULL;
    }
    return api;
}

/* Needs the GIL.  The book behind a capsule, valid while the capsule lives; NULL with a Python exception otherwise. */
static inline mc_book *mc_book_of(PyObject *capsule)
{
    return (mc_book *)PyCapsule_GetPointer(capsule, MC_BOOK_CAPSULE);
}
#endif

#endif
