"""hwdash: see every accelerator in the box, know which one to use and why, and prove it with a prompt."""

__version__ = "0.1.0"
