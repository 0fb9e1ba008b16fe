"""What a request meets where a plan of faults says so. See gate.py."""
