"""What it learns from: pictures and clips with true masks, whatever format people keep them in.

opening.py         which format is it
samples.py         what all of them become
splitting.py       what is held out
check.py           what would spoil training
convert.py         the same masks in another format
"""
