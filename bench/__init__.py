"""Measurements. Only ratios taken side by side in one run mean anything; see README.md."""
