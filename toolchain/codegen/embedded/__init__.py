"""The embedded C rendering of an integer program."""
