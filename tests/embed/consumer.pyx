# A stranger's Cython module: cimports the public formulas, and drives a book through the capsule.
from margincore.kernels.formula cimport black76, normal_cdf


def price(double forward, double strike, double years, double sigma):
    return black76(forward, strike, years, sigma, 1), normal_cdf(0.0)
