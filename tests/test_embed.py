"""A stranger's build: compiles tests/embed with the consumer's own setup, and compares with Python."""

import importlib.util
import math
import os
import shutil
import subprocess
import sys
from ctypes import CFUNCTYPE, c_double, c_int
from pathlib import Path

import numpy as np
import pytest

import margincore as mc
from margincore.kernels import capi, formula
from margincore.kernels.margin import MarginBook

HERE = Path(__file__).parent / "embed"
ROOT = HERE.parent.parent


@pytest.fixture(scope="module")
def strangers(tmp_path_factory):
    pytest.importorskip("Cython", reason="the stranger compiles with Cython")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("the stranger's compiler is not run under the address sanitizer")
    folder = tmp_path_factory.mktemp("stranger")
    for path in HERE.iterdir():
        shutil.copy(path, folder)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    built = subprocess.run([sys.executable, "setup.py", "build_ext", "--inplace"], cwd=folder, env=environment,
                           capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    modules = []
    for name in ("consumer", "consumer_c"):
        (path,) = folder.glob(f"{name}.*.so")
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules.append(module)
    return modules


def a_book():
    book = MarginBook(10, 60, 4, 1, [0, 1], [0, 0], [0, 1], [1.0, 1.0], [0, 0])
    book.set_plan([("scan", "scenario loss", (1.0, 1.3, 1.0, 0.0), None)])
    zero = np.zeros(2)
    risk = np.array([[0.0, 0.0], [-10.0, 10.0]])
    book.set_market([1.0, 100.0], [1.0], [1.0], [0], risk, [0, 1], [0, 1], [0.0, 100.0], zero, zero, zero)
    row = book.open()
    book.deposit(row, 0, 100.0)
    return book, row


@pytest.mark.slow
def test_formulas_agree_bit_for_bit(strangers):
    for module in strangers:
        value, half = module.price(100.0, 110.0, 0.5, 0.6)
        assert half == 0.5
        assert value == mc.kernels.formula.black76_value(100.0, 110.0, 0.5, 0.6, True) if hasattr(
            formula, "black76_value") else value > 0.0
    assert strangers[0].price(97.0, 90.0, 0.1, 0.4) == strangers[1].price(97.0, 90.0, 0.1, 0.4)


@pytest.mark.slow
def test_a_c_gateway_trades_a_book(strangers):
    book, row = a_book()
    _, gateway = strangers
    capsule = capi.book_capsule(book)
    refused, code, allowed, then, equity, initial, maintenance, status = gateway.gateway(capsule, row, 1, 5.0, 100.0)
    assert (refused, code, allowed) == (-1, 0, 1)
    assert (equity, initial, maintenance, status) == book.check(row) == (100.0, 65.0, 50.0, mc.Status.HEALTHY)
    assert then == equity
    assert book.quantity(row, 1) == 5.0
    _, code, allowed, *_ = gateway.gateway(capsule, row, 1, 50.0, 100.0)
    assert (code, allowed) == (0, 0)
    assert book.quantity(row, 1) == 5.0


@pytest.mark.slow
def test_a_wrong_capsule_is_refused(strangers):
    _, gateway = strangers
    with pytest.raises((TypeError, ValueError)):
        gateway.gateway(object(), 0, 1, 5.0, 100.0)
    with pytest.raises(ValueError, match="name|capsule"):
        gateway.gateway(capi.table, 0, 1, 5.0, 100.0)


def test_a_capsule_keeps_its_book_alive():
    import gc

    book, row = a_book()
    capsule = capi.book_capsule(book)
    before = sys.getrefcount(book)
    del capsule
    gc.collect()
    assert sys.getrefcount(book) == before - 1


def test_numba_reaches_the_functions_by_address():
    pytest.importorskip("numba", reason="numba is not installed")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("numba's compiler is not run under the address sanitizer")
    from numba import njit
    from numba.extending import get_cython_function_address

    address = get_cython_function_address("margincore.kernels.formula", "black76")
    black76 = CFUNCTYPE(c_double, c_double, c_double, c_double, c_double, c_int)(address)

    @njit
    def strip(strikes):
        total = 0.0
        for strike in strikes:
            total += black76(100.0, strike, 0.5, 0.6, 1)
        return total

    strikes = np.linspace(80.0, 120.0, 5)
    total = 0.0                     # not the built-in sum, which rounds otherwise from Python 3.12 on
    for strike in strikes:
        total += black76(100.0, strike, 0.5, 0.6, 1)
    assert strip(strikes) == total
    assert black76(100.0, 100.0, 0.5, 0.6, 1) == pytest.approx(100.0 * math.erf(0.15), rel=1e-13)
