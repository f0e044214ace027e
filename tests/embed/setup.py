from Cython.Build import cythonize
from setuptools import Extension, setup

import margincore

common = {"include_dirs": [margincore.get_include()]}
setup(
    name="stranger",
    ext_modules=[
        *cythonize([Extension("consumer", ["consumer.pyx"], **common)], language_level=3),
        Extension("consumer_c", ["consumer_c.c"], **common),
    ],
)
