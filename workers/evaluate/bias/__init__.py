"""Measures of bias and responsibility (contracts/bias.py); `family.py` is the job."""
