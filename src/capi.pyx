"""The function table behind margincore.h, and the capsule of a book: the two things an embedding program takes."""

from cpython.pycapsule cimport PyCapsule_GetContext, PyCapsule_New, PyCapsule_SetContext
from cpython.ref cimport Py_DECREF, Py_INCREF, PyObject

from margincore.kernels.book cimport book_deposit, book_trade
from margincore.kernels.formula cimport black76, black76_inverse, normal_cdf
from margincore.kernels.margin cimport MarginBook, engine_t, margin_check, margin_what_if
from margincore.kernels.types cimport int32_t, int64_t, mc_result, uint32_t


cdef extern from "margincore.h" nogil:
    enum:
        MC_ABI_VERSION
    const char* MC_BOOK_CAPSULE

    ctypedef struct mc_book:
        pass

    ctypedef struct mc_api:
        uint32_t abi_version
        uint32_t struct_size
        double (*normal_cdf)(double) noexcept nogil
        double (*black76)(double, double, double, double, int) noexcept nogil
        double (*black76_inverse)(double, double, double, double, int) noexcept nogil
        int (*book_check)(const mc_book*, int64_t, mc_result*) noexcept nogil
        int (*book_what_if)(const mc_book*, int64_t, int32_t, double, double, double, mc_result*) noexcept nogil
        int (*book_trade)(mc_book*, int64_t, int32_t, double, double, double) noexcept nogil
        int (*book_deposit)(mc_book*, int64_t, int32_t, double) noexcept nogil


# An mc_book is the engine_t inside a MarginBook.

cdef int api_check(const mc_book* book, int64_t row, mc_result* out) noexcept nogil:
    return margin_check(<const engine_t*>book, row, out)


cdef int api_what_if(const mc_book* book, int64_t row, int32_t column, double quantity, double price, double fee,
                     mc_result* out) noexcept nogil:
    return margin_what_if(<const engine_t*>book, row, column, quantity, price, fee, out)


cdef int api_trade(mc_book* book, int64_t row, int32_t column, double quantity, double price,
                   double fee) noexcept nogil:
    return book_trade((<engine_t*>book).book, row, column, quantity, price, fee)


cdef int api_deposit(mc_book* book, int64_t row, int32_t asset, double amount) noexcept nogil:
    return book_deposit((<engine_t*>book).book, row, asset, amount)


cdef mc_api api
api.abi_version = MC_ABI_VERSION
api.struct_size = sizeof(mc_api)
api.normal_cdf = normal_cdf
api.black76 = black76
api.black76_inverse = black76_inverse
api.book_check = api_check
api.book_what_if = api_what_if
api.book_trade = api_trade
api.book_deposit = api_deposit

table = PyCapsule_New(&api, "margincore.kernels.capi.table", NULL)


cdef void release_book(object capsule) noexcept:
    Py_DECREF(<object><PyObject*>PyCapsule_GetContext(capsule))


def book_capsule(MarginBook book not None):
    """A capsule named ``margincore.book`` with the C pointer of a book; it keeps the book alive."""
    capsule = PyCapsule_New(&book.e, MC_BOOK_CAPSULE, release_book)
    PyCapsule_SetContext(capsule, <void*>book)
    Py_INCREF(book)
    return capsule
