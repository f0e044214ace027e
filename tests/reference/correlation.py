"""Shrinkage intensities summed over observations and pairs as the papers write them."""

import numpy as np


def weighted_covariance(returns, weights):
    return sum(w * np.outer(x, x) for w, x in zip(weights, returns, strict=True))


def identity_intensity(returns, weights):
    sample = weighted_covariance(returns, weights)
    target = np.eye(len(sample)) * np.trace(sample) / len(sample)
    noise = sum(w**2 * np.sum((np.outer(x, x) - sample) ** 2) for w, x in zip(weights, returns, strict=True))
    return float(min(noise / np.sum((sample - target) ** 2), 1.0))


def constant_correlation(returns, weights):
    """Target and intensity of Ledoit and Wolf (2004b), appendices A and B."""
    sample = weighted_covariance(returns, weights)
    assets = len(sample)
    sigma = np.sqrt(np.diag(sample))
    pairs = [(i, j) for i in range(assets) for j in range(assets) if i != j]
    mean = np.mean([sample[i, j] / sigma[i] / sigma[j] for i, j in pairs])
    target = mean * np.outer(sigma, sigma)
    np.fill_diagonal(target, np.diag(sample))
    pi = rho = 0.0
    for w, x in zip(weights, returns, strict=True):
        deviation = np.outer(x, x) - sample
        pi += w**2 * np.sum(deviation**2)
        rho += w**2 * np.sum(np.diag(deviation) ** 2)
        for i, j in pairs:
            rho += w**2 * mean * sigma[j] / sigma[i] * deviation[i, i] * deviation[i, j]
    gamma = np.sum((target - sample) ** 2)
    return target, float(min(max((pi - rho) / gamma, 0.0), 1.0))
