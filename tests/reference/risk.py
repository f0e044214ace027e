"""The slow obvious twin of margincore.kernels.risk, written from the definitions."""

import numpy as np


def worst_loss(pnl):
    """Worst loss of one vector and the first scenario that makes it."""
    for scenario, value in enumerate(pnl):
        if not np.isfinite(value):
            return np.nan, scenario
    scenario = int(np.argmin(pnl))
    return -float(pnl[scenario]) + 0.0, scenario
