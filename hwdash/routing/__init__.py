"""Which device a prompt goes to, and why. Pure functions over a snapshot."""
