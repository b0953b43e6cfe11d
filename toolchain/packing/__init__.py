"""Weights as bytes: the container that a project keeps them in."""
