"""Puts the rooms together and serves them over HTTP."""
