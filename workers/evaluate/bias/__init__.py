"""Measures of bias and responsibility (contracts/bias.py); `report.py` is the job."""
