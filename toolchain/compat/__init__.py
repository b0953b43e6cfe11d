"""Familiar names of other tools, each a thin layer over the Python API."""
