"""Tests mirror the packages and use real parts, which `conftest.py` starts."""
