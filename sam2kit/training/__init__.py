"""Fine-tuning on your own pictures or clips: finetune.py is the entry, configuration.py holds the ways to do it."""
