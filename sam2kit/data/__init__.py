"""Pictures and clips with true masks, in whatever format people keep them: read, checked, split, and written anew.

stored.py        frames that lie in files; sample.py: Dataset, Sample (frames and truth), LabelledFrames
opening.py       which format is it; a module for each family of formats reads it (layouts.py: how folders are called)
check.py         what would make training fail or go wrong; report.py says it, in words and as a contact sheet
splitting.py     what is held out; which pictures are the same
convert.py       the same masks in another format; mask_exports.py: the masks of one clip or picture
"""
