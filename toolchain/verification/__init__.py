"""Renderings of one program compared with each other, and generated code checked."""
