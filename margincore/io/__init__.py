"""Formats of other tools, read without them: their rows become contracts and the parts of a market."""
