"""Measurements of this machine, for `sam2kit bench`: numbers that depend on the machine belong here, not in tests.

memory.py        peak memory of a short and a long propagation
compare.py       the same work by us and by others, in turns; medians and ratios
contenders.py    how each of them does the work
worker.py        one contender in a process of its own
"""
