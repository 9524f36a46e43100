"""How to ask it: pixels and prompts in, masks out."""
