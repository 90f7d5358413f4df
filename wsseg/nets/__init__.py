"""Torch modules and functions; nothing above this layer imports torch at module level."""
