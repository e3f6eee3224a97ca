"""The worker process: the only room that imports torch and transformers."""
