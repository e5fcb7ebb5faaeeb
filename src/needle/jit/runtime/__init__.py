"""Compiling, loading and running programs, and explaining them."""
