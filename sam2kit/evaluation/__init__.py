"""How good it is: the paper's protocols and the benchmarks' own arithmetic.

metrics.py            J, F, J&F: of two masks, and of an object through a clip as each benchmark counts
clicks.py             the simulated user's clicks and boxes; click curves of pictures, calibration
semi_supervised.py    prompt once and follow; two models side by side
found_objects.py      objects found without a prompt: AP and PQ, beside "segment everything"
interactive.py        correct offline and online
scored_folders.py     PNG masks that anybody made, without a model
reports.py            one object's scores; what many say together, as tables; YouTube-VOS G
runs.py               a whole dataset: goes on after a stop, shared by several processes
"""
