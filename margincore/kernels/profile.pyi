import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

def fit(
    terms: Floats,
    edges: Floats,
    sigma: Floats,
    check_sigma: Floats,
    points: Floats,
    check_points: Floats,
    stretch: Floats,
    check_stretch: Floats,
    level: Floats,
    across: Floats,
    along: Floats,
    coefficient: Floats,
    error: Floats,
) -> None: ...
def evaluate(
    row: npt.NDArray[np.int64],
    edges: Floats,
    coefficient: Floats,
    y: Floats,
    z: Floats,
    centre: Floats,
    inverse_reach: Floats,
    rank: npt.NDArray[np.int64],
    settle: npt.NDArray[np.int32],
    conversion: Floats,
    out: Floats,
) -> None: ...
