"""Kernels in C++, one extension module a file; each is optional (see setup.py)."""
