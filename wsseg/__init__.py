"""wsseg: cheap annotations into pixel masks, and masks into trained segmenters."""

__version__ = "0.1.0"
