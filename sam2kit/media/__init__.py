"""How to show it: pictures in, drawings and files out; never sees the model."""
