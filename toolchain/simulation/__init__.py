"""Engines that run integer programs: the reference and the fast one."""
