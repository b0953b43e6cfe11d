"""Boards, the dataflow design of a program, its folding, resources and cycles."""
