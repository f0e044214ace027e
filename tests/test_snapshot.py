"""An engine, or an account with its engine, copied and pickled: the same answers to the bit, and a life of its own."""

import copy
import pickle

import numpy as np
import pytest

import margincore as mc
from margincore.errors import CapacityError, RangeError, ShapeError

NOW, EXPIRY = mc.utc("2026-01-05T08:00"), mc.utc("2026-02-27T08:00")


@pytest.fixture
def engine():
    contracts = mc.Contracts([
        mc.Perpetual("P", underlying="BTC", settle="USDC"), mc.Perpetual("E", underlying="ETH", settle="USDC"),
        mc.Option("O", underlying="BTC", settle="USDC", strike=1e5, expiry_ns=EXPIRY, right="call"),
        mc.Future("F", underlying="BTC", settle="USDC", expiry_ns=EXPIRY)])
    made = mc.Engine(contracts, mc.ScenarioMargin(scenarios=mc.grid(spot=[-0.16, 0.0, 0.16])), accounts=20, positions=6,
                     age_max_ns=10**12)
    made.update(mc.MarketState(now_ns=NOW, spot={"BTC": 1e5, "ETH": 3e3, "USDC": 1.0}, volatility={"O": 0.5}))
    generator = np.random.default_rng(3)
    for at in range(8):
        account = made.open(f"account {at}", leverage=5.0 if at % 2 else None)
        account.deposit("USDC", 1e5 * generator.uniform())
        for symbol in ("P", "E", "O", "F"):
            account.trade(symbol, generator.normal(), price=made.mark(symbol) * generator.uniform(0.9, 1.1))
    made.account("account 1").set_orders("P", buy=2.0, sell=1.0 / 3.0)
    made.account("account 2").isolated("P").deposit("USDC", 77.0)
    gone = made.open("gone")
    gone.close()
    made.settle({"F": 1.01e5})
    return made


def answers(engine):
    table = engine.margin()
    return ([(a.name, a.margin(), a.portfolio, a.orders()) for a in engine.accounts()], table.maintenance.tobytes(),
            table.initial.tobytes(), table.equity.tobytes(), table.status.tobytes(), engine.settled)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["copy", "pickle"])
def test_a_copy_answers_the_same_and_lives_alone(engine, again):
    before, other = answers(engine), again(engine)
    assert answers(other) == before
    for made in (engine, other):
        assert made.open("new").row == made.account("new").row
    assert other.account("new").row == engine.account("new").row       # the freed row is used again
    alone = other.account("account 2").isolated("P")
    assert alone.name == "account 2/P" and alone.balance("USDC") == 77.0
    other.account("account 1").trade("P", 3.0, price=1e5)
    engine.account("new").close()
    assert answers(engine) == before != answers(other)
    with pytest.raises(mc.MarginError):
        other.account("account 1").trade("F", 1.0, price=1e5)
    assert other.age_max_ns == 10**12 and other.base == "USD"


def test_an_account_brings_its_engine_along(engine):
    account = engine.account("account 3")
    other = pickle.loads(pickle.dumps(account))
    assert other.margin() == account.margin() and other != account
    other.deposit("USDC", 1.0)
    assert other.balance("USDC") != account.balance("USDC")


def test_rows_that_do_not_fit_are_refused(engine):
    state, before = engine.book.save(), answers(engine)
    small = mc.Engine(engine.contracts, engine.model, accounts=2, positions=2)
    with pytest.raises(CapacityError):
        small.book.restore(state)
    for name, value, error in (
            ("start", state["start"] + 1000, RangeError), ("count", state["count"][:-1], ShapeError),
            ("count", state["count"] + 100, RangeError), ("retired", state["retired"][1:], ShapeError),
            ("instrument", state["instrument"] + 50, RangeError), ("free_rows", np.array([99]), RangeError)):
        with pytest.raises(error):
            engine.book.restore({**state, name: value})
    assert answers(engine) == before
