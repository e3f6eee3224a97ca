"""Chips that a file describes: profiles in TOML, and the source that reads devices by them."""
