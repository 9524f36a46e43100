"""Measurements of this machine, for `python -m tests.bench`: what depends on the machine, so is no test.

memory.py        peak memory of a short and a long propagation
compare.py       the same work by us and by others, in turns; medians and ratios
contenders.py    how each of them does the work
worker.py        one contender in a process of its own, and how it is asked
"""
