"""The async client of the daemon's API, and the start of a daemon where there is none."""
