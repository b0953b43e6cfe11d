"""Compiler from trained networks to FPGAs and embedded targets."""
