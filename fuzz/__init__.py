"""Fuzz targets: every reader of foreign bytes, each with what must hold whatever it is given.

A target is a plain function of bytes. `python -m fuzz` lets atheris choose the bytes by what they reach in the code;
tests/unit/test_fuzz_targets.py runs the same functions over their seeds and some hundred changes of them, without it.
See CONTRIBUTING.md.
"""
