"""Margin volatility of one underlying, one bar after the other, in plain Python: every stage as its text says.

`settings` is a dict of the parameters; the realised model is an EWMA whose first variance is given.
"""

import math

import numpy as np


def path(returns, implied, settings):
    """Charge per annum after each of the bars from `observations_min` on, shape (bars - observations_min + 1,)."""
    s = settings
    yearly = s["days_per_year"] / s["bar_days"]
    variance, charge, smooth, long_run, stressed_regime = s["start_variance"], None, None, None, False
    known, known_age, out, peak = None, math.inf, [], 0.0
    for t, (r, given) in enumerate(zip(returns, implied, strict=True)):
        if not math.isnan(r):
            variance = s["decay"] * variance + (1.0 - s["decay"]) * r * r
        known, known_age = (given, 0.0) if not math.isnan(given) else (known, known_age + s["bar_days"])
        window = [x for x in returns[max(0, t + 1 - s["stress_window"]):t + 1] if not math.isnan(x)]
        if len(window) >= 0.5 * s["stress_window"]:
            peak = max(peak, sum(x * x for x in window) / len(window))
        if t + 1 < s["observations_min"]:
            continue
        realised = math.sqrt(variance * yearly)
        fresh = known is not None and known_age <= s["implied_stale_after_days"]
        long_run = mix(realised, long_run, s["bar_days"], s["long_run_half_life_days"])
        sigma, stressed_regime = blend(realised, known if fresh else None, long_run, stressed_regime, s)
        if s["stress_weight"]:
            stress = peak * yearly if s["stress_sigma"] is None else s["stress_sigma"] ** 2
            sigma = math.sqrt((1.0 - s["stress_weight"]) * sigma**2
                              + s["stress_weight"] * max(stress, sigma**2))
        rising = smooth is None or sigma >= smooth
        smooth = mix(sigma, smooth, s["bar_days"], s["half_life_rise_days"] if rising else s["half_life_fall_days"])
        charge = limit(buffer(smooth, charge, s), charge, s)
        lookback = [x for x in returns[max(0, t + 1 - s["lookback_bars"]):t + 1] if not math.isnan(x)]
        floor = math.sqrt(sum(x * x for x in lookback) / len(lookback) * yearly) if s["lookback_bars"] else 0.0
        charge = max(charge, floor, s["floor_annual"])
        out.append(charge)
    return np.array(out)


def mix(target, before, days, half_life):
    """Move from `before` to `target`, half of the way per half-life."""
    if before is None or half_life == 0.0:
        return target
    return target + (before - target) * 0.5 ** (days / half_life)


def blend(realised, implied, long_run, stressed, s):
    if s["blend"] == "regime":
        most = realised if implied is None else max(realised, implied)
        stressed = most >= s["enter"] * long_run or (stressed and most >= s["leave"] * long_run)
    if implied is None:
        return realised, stressed
    if s["blend"] == "max" or (s["blend"] == "regime" and stressed):
        return max(realised, implied), stressed
    return s["implied_weight"] * implied + (1.0 - s["implied_weight"]) * realised, stressed


def buffer(sigma, before, s):
    full = (1.0 + s["buffer"]) * sigma
    if before is None or full <= before * (1.0 + s["trigger"]):
        return full
    drawn = min(max(sigma, before), full)
    return mix(full, drawn, s["bar_days"], s["rebuild_half_life_days"])


def limit(sigma, before, s):
    if before is None:
        return sigma
    if s["rise_max_daily"] is not None:
        sigma = min(sigma, before * (1.0 + s["rise_max_daily"]) ** s["bar_days"])
    if s["fall_max_daily"] is not None:
        sigma = max(sigma, before * (1.0 - s["fall_max_daily"]) ** s["bar_days"])
    return sigma
