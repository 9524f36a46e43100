"""How good it is: the paper's protocols and the benchmarks' own arithmetic.

metrics.py, clicks.py                 J, F, and where a simulated user clicks
pictures.py                           click curves, boxes, calibration
side_by_side.py                       what two models show after one click on the same pictures
clips.py                              the quick measure of tracking on short clips
vos.py, semi_supervised.py            J&F as benchmarks count it; prompt once and follow
interactive.py, youtube_vos.py        correct offline and online; G
mask_folders.py                       PNG masks that anybody made
rows.py, tables.py                    one object's scores; what many say together
runs.py, processes.py, protocols.py   a whole dataset: going on after a stop, several processes
"""
