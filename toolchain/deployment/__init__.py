"""Vendor tools and boards, run as subprocesses."""
