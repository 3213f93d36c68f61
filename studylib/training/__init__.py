"""Training: one loop for every loss, every trunk and every device.

`loop.py` holds the whole of it, top to bottom; gradient caching (`gradient_caching.py`) and many
processes (`distributed.py`) are modules of their own.
"""

from studylib.training.loop import train

__all__ = ["train"]
