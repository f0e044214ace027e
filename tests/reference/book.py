"""The slow obvious twin of margincore.kernels.book: one account as a dictionary, written from the trading rules."""

CASH, PERPETUAL, FUTURE, OPTION = range(4)
AMOUNT_MAX, ENTRY_MAX, DUST = 1e15, 1e30, 8.9e-16


class Refused(Exception):
    """A trade or deposit outside the range of the book."""


class Row:
    """Positions and balances of one account: {column: [quantity, entry value, resting buys, resting sells]}."""

    def __init__(self, table):
        self.table = table      # settle, kind, multiplier, inverse by column
        self.slots = {}

    def value(self, column, price):
        """Settlement asset per contract: m P; m (-1 / P) of an inverse future, whose P&L is m (1 / entry - 1 / P)."""
        if self.table["inverse"][column] and self.table["kind"][column] != OPTION:
            return -self.table["multiplier"][column] / price
        return self.table["multiplier"][column] * price

    def deposit(self, asset, amount):
        total = self.slots.get(asset, [0.0])[0] + amount
        if not abs(total) <= AMOUNT_MAX:
            raise Refused
        self.slots.setdefault(asset, [0.0] * 4)[0] = total

    def trade(self, column, quantity, price, fee=0.0):
        """Average cost: the closed part realises its profit, the opened part adds to the entry value."""
        value = self.value(column, price)
        held, entry = self.slots.get(column, [0.0] * 4)[:2]
        after = held + quantity
        if abs(after) <= DUST * max(abs(held), abs(quantity)):
            after = 0.0
        opening = held == 0 or (held > 0) == (quantity > 0)
        flat_or_flipped = after == 0 or (after > 0) != (held > 0)
        if opening:
            realised, entry = 0.0, entry + quantity * value
        elif flat_or_flipped:
            realised, entry = held * value - entry, after * value
        else:
            average = entry / held
            realised, entry = -quantity * (value - average), after * average
        if self.table["kind"][column] == OPTION:
            realised = -quantity * value        # the whole premium moves at once
        if not (abs(after) <= AMOUNT_MAX and abs(entry) <= ENTRY_MAX and abs(realised - fee) <= AMOUNT_MAX):
            raise Refused
        self.deposit(self.table["settle"][column], realised - fee)
        slot = self.slots.setdefault(column, [0.0] * 4)
        slot[0], slot[1] = after, entry
        self._drop(column)

    def set_orders(self, column, buy, sell):
        if column not in self.slots and buy == sell == 0.0:
            return
        self.slots.setdefault(self.table["settle"][column], [0.0] * 4)
        self.slots.setdefault(column, [0.0] * 4)[2:] = [buy, sell]
        self._drop(column)

    def settle(self, column, price):
        quantity, entry, _, _ = self.slots.pop(column)
        owed = 0.0 if self.table["kind"][column] == OPTION else entry
        self.slots[self.table["settle"][column]][0] += quantity * self.value(column, price) - owed

    def fund(self, column, amount):
        self.slots[self.table["settle"][column]][0] -= self.slots[column][0] * amount

    def _drop(self, column):
        quantity, _, buy, sell = self.slots[column]
        if quantity == buy == sell == 0.0:
            del self.slots[column]
