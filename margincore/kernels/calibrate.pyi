import numpy as np
import numpy.typing as npt

_Doubles = npt.NDArray[np.float64]

def fit(log_moneyness: _Doubles, low: _Doubles, high: _Doubles, weight: _Doubles, start: npt.NDArray[np.int64],
        strikes: npt.NDArray[np.int64], years: _Doubles, rows: _Doubles, status: npt.NDArray[np.int32], warm: bool,
        sweeps: int, rounds: int) -> None: ...
