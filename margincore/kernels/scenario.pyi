import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

def volatility_shocks(
    sigma: Floats,
    years: Floats,
    underlying: npt.NDArray[np.int32],
    kind: npt.NDArray[np.int32],
    size: Floats,
    limits: Floats,
    days_floor: float,
    minimum: float,
    out: Floats,
) -> None: ...
def sigma_moves(multiples: Floats, sigma_annual: float, years: float, out: Floats) -> None: ...
def log_growth(move: Floats, out: Floats) -> None: ...
def exponentials(x: Floats, out: Floats) -> None: ...
def growth_moves(x: Floats, out: Floats) -> None: ...
def surface_factors(
    strike: Floats,
    forward: Floats,
    years: Floats,
    shift: Floats,
    moneyness: Floats,
    tenor_years: Floats,
    log_ratio: Floats,
    out: Floats,
    logarithms: bool = False,
) -> None: ...
