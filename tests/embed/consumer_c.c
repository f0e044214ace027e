/* A stranger's C module: takes the function table once, then checks and trades a book without the interpreter lock. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include "margincore.h"

static const mc_api *api;

static PyObject *price(PyObject *self, PyObject *args)
{
    double forward, strike, years, sigma;
    if (!PyArg_ParseTuple(args, "dddd", &forward, &strike, &years, &sigma))
        return NULL;
    return Py_BuildValue("dd", api->black76(forward, strike, years, sigma, 1), api->normal_cdf(0.0));
}

static PyObject *gateway(PyObject *self, PyObject *args)
{
    PyObject *capsule;
    long long row;
    int column, refused, allowed, code;
    double quantity, fill_price;
    mc_result now, then;
    mc_book *book;
    if (!PyArg_ParseTuple(args, "OLidd", &capsule, &row, &column, &quantity, &fill_price))
        return NULL;
    book = mc_book_of(capsule);
    if (book == NULL)
        return NULL;
    Py_BEGIN_ALLOW_THREADS
    refused = api->book_check(book, -5, &now);
    code = api->book_what_if(book, row, column, quantity, fill_price, 0.0, &then);
    allowed = code == MC_OK && then.status == MC_HEALTHY;
    if (allowed)
        code = api->book_trade(book, row, column, quantity, fill_price, 0.0);
    if (code == MC_OK)
        code = api->book_check(book, row, &now);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("iiiddddi", refused, code, allowed, then.equity, now.equity, now.initial, now.maintenance,
                         (int)now.status);
}

static PyMethodDef methods[] = {
    {"price", price, METH_VARARGS, NULL},
    {"gateway", gateway, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "consumer_c", NULL, -1, methods, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_consumer_c(void)
{
    api = mc_import();
    return api == NULL ? NULL : PyModule_Create(&module);
}
