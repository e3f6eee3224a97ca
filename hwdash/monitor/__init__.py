"""Sources to snapshots: the poller, derived rates, health, the registry of devices."""
