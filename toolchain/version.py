"""The one place that holds the version: packaging, ``toolchain --version`` and ``report.json`` read it here."""

__version__ = "0.1.0"
