import numpy as np
import numpy.typing as npt

_Doubles = npt.NDArray[np.float64]
_Flags = npt.NDArray[np.uint8]

def butterflies(rows: _Doubles, out: _Flags) -> None: ...
def calendars(near: _Doubles, far: _Doubles, slack: float, out: _Flags) -> None: ...
