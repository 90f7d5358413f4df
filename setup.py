"""Builds the native kernels, and nothing else: all the rest is in setup.cfg.

They are optional. Where there is no compiler, the same commands run through the torch engine.
"""

from glob import glob

from setuptools import setup

try:
    from pybind11.setup_helpers import Pybind11Extension
except ImportError:
    kernels = []
else:
    kernels = [Pybind11Extension(f"wsseg.native.{path[13:-4]}", [path], optional=True,
                                 cxx_std=17, extra_compile_args=["-O3", "-pthread", "-Wno-psabi"],
                                 extra_link_args=["-pthread"], depends=glob("wsseg/native/*.h"))
               for path in sorted(glob("wsseg/native/_*.cpp"))]

setup(ext_modules=kernels)
