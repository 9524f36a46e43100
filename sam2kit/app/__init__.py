"""How people touch it: the only place that imports gradio."""
