"""The tables as SQL, one tuple of statements for each schema version. What was released is never edited, only added to.

``device``     every device that was ever seen; history refers to its ``id``
``run``        the spells in which a daemon kept this file; ``end_ts`` is NULL while one does
``absent_set`` the distinct sets of absence reasons as JSON, ``{"fan_ratio": "not_supported"}``
``sample``     one row a device and reading; a NULL metric is absent, for the reason in ``absent`` (a metric that
               stands in neither cannot exist on the device). Codes: `hwdash.store.column`
``event``      what happened to devices: ``kind`` (health, device, alert), ``severity``, one line of ``words``; ``before``,
               ``after``, ``reasons``, ``throttle`` and ``suspected`` of a health change, ``rule`` and ``active`` of an alert
``inference``  answered and failed prompts, without any text of theirs
``probe``      probes: the prompts that hwdash itself sends on a schedule
``bench``      reports of ``hwdash bench`` and ``hwdash soak`` (``kind``), as JSON
``trial``      how fast a device is in each precision, with one driver and one torch, as JSON

Every ``ts`` is in milliseconds since 1970 in UTC. Scaled integers carry their unit in the name: they keep a row of 17
metrics below 100 bytes on the disk, where floats would need twice that.
"""

from __future__ import annotations

APPLICATION_ID = 0x68776473
"""``PRAGMA application_id`` of our files: ``hwds`` in ASCII."""

CREATION_PRAGMAS = ("PRAGMA page_size=4096", "PRAGMA auto_vacuum=INCREMENTAL", "PRAGMA journal_mode=WAL")
"""Settings kept in the file. The first two only hold when they come before the first table."""

CONNECTION_PRAGMAS = (
    "PRAGMA busy_timeout=5000",
    "PRAGMA synchronous=FULL",
    "PRAGMA secure_delete=OFF",
    "PRAGMA wal_autocheckpoint=1000",
    "PRAGMA journal_size_limit=16777216",
)
"""Settings of a writing connection. FULL: a committed record also survives a power cut."""

_SAMPLE_COLUMNS_2 = (
    "sm_utilization_permille", "power_permille", "requested_clock_khz",
    "memory_read_kib_per_s", "memory_write_kib_per_s", "nvlink_rx_kib_per_s", "nvlink_tx_kib_per_s",
    "pcie_replay_total", "ecc_corrected_total", "heartbeat_total", "errors_total", "voltage_mv", "current_ma",
)  # fmt: skip

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"PRAGMA application_id={APPLICATION_ID}",
        """CREATE TABLE device(
            id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, name TEXT NOT NULL, kind TEXT NOT NULL,
            first_ts INTEGER NOT NULL, last_ts INTEGER NOT NULL)""",
        "CREATE TABLE run(id INTEGER PRIMARY KEY, start_ts INTEGER NOT NULL, end_ts INTEGER)",
        "CREATE TABLE absent_set(id INTEGER PRIMARY KEY, reasons TEXT NOT NULL UNIQUE)",
        """CREATE TABLE sample(
            ts INTEGER NOT NULL, dev INTEGER NOT NULL,
            utilization_permille INTEGER, memory_bandwidth_utilization_permille INTEGER, tensor_utilization_permille INTEGER,
            memory_used_kib INTEGER, memory_total_kib INTEGER,
            temperature_mc INTEGER, hotspot_temperature_mc INTEGER, memory_temperature_mc INTEGER, temperature_margin_mc INTEGER,
            power_mw INTEGER, energy_mj INTEGER, clock_khz INTEGER, memory_clock_khz INTEGER,
            fan_permille INTEGER, fan_rpm INTEGER,
            pcie_rx_kib_per_s INTEGER, pcie_tx_kib_per_s INTEGER, pcie_link_generation INTEGER, pcie_link_width INTEGER,
            ecc_uncorrected_total INTEGER, remapped_rows_total INTEGER, load_1m_milli INTEGER,
            throttle INTEGER, throttle_permille INTEGER, health INTEGER NOT NULL, absent INTEGER,
            PRIMARY KEY(ts, dev)) WITHOUT ROWID""",
        """CREATE TABLE event(
            id INTEGER PRIMARY KEY, ts INTEGER NOT NULL, dev INTEGER NOT NULL, run INTEGER NOT NULL,
            before TEXT, after TEXT NOT NULL, reasons TEXT NOT NULL, throttle TEXT NOT NULL)""",
        "CREATE INDEX event_ix ON event(dev, ts)",
        """CREATE TABLE inference(
            id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, ts INTEGER NOT NULL, dev INTEGER NOT NULL,
            model TEXT NOT NULL, dtype TEXT, origin TEXT NOT NULL, requested TEXT NOT NULL, fallback_from TEXT,
            finish TEXT NOT NULL, error TEXT, tokens_prompt INTEGER, tokens_completion INTEGER NOT NULL,
            queue_us INTEGER, cold_start_us INTEGER, ttft_us INTEGER, itl_p50_us INTEGER, itl_p99_us INTEGER,
            total_us INTEGER, tokens_per_ks INTEGER, energy_mj INTEGER, energy_per_token_uj INTEGER, energy_scope TEXT,
            throttle INTEGER NOT NULL, temperature_max_mc INTEGER, clock_min_khz INTEGER)""",
        "CREATE INDEX inference_ix ON inference(dev, ts)",
    ),
    (
        *(f"ALTER TABLE sample ADD COLUMN {name} INTEGER" for name in _SAMPLE_COLUMNS_2),
        """CREATE TABLE event_2(
            id INTEGER PRIMARY KEY, ts INTEGER NOT NULL, dev INTEGER NOT NULL, run INTEGER NOT NULL,
            kind TEXT NOT NULL, severity TEXT NOT NULL, words TEXT NOT NULL,
            before TEXT, after TEXT, reasons TEXT NOT NULL, throttle TEXT NOT NULL, suspected INTEGER NOT NULL,
            rule TEXT, active INTEGER)""",
        """INSERT INTO event_2
            SELECT id, ts, dev, run, 'health',
                CASE after WHEN 'ok' THEN 'info' WHEN 'lost' THEN 'critical' ELSE 'warning' END,
                after || coalesce(': ' || (SELECT group_concat(value, ', ') FROM json_each(
                    CASE WHEN json_valid(event.reasons) THEN event.reasons ELSE '[]' END)), ''),
                before, after, reasons, throttle, 0, NULL, NULL
            FROM event""",
        "DROP TABLE event",
        "ALTER TABLE event_2 RENAME TO event",
        "CREATE INDEX event_ix ON event(dev, ts)",
        "CREATE INDEX event_ts_ix ON event(ts)",
    ),
    (
        "ALTER TABLE inference ADD COLUMN energy_share_permille INTEGER",
        "ALTER TABLE inference ADD COLUMN energy_idle_mj INTEGER",
        """CREATE TABLE probe(
            id INTEGER PRIMARY KEY, ts INTEGER NOT NULL, dev INTEGER NOT NULL, model TEXT NOT NULL, dtype TEXT, driver TEXT NOT NULL,
            outcome TEXT NOT NULL, ttft_us INTEGER, itl_us INTEGER, total_us INTEGER, tokens INTEGER NOT NULL,
            digest TEXT NOT NULL, expected TEXT NOT NULL, drift_permille INTEGER, error TEXT)""",
        "CREATE INDEX probe_ix ON probe(dev, ts)",
        """CREATE TABLE bench(
            id INTEGER PRIMARY KEY, uid TEXT NOT NULL UNIQUE, ts INTEGER NOT NULL, dev INTEGER NOT NULL, kind TEXT NOT NULL,
            model TEXT NOT NULL, report TEXT NOT NULL)""",
        "CREATE INDEX bench_ix ON bench(dev, ts)",
        """CREATE TABLE trial(
            dev INTEGER NOT NULL, driver TEXT NOT NULL, torch TEXT NOT NULL, ts INTEGER NOT NULL, trial TEXT NOT NULL,
            PRIMARY KEY(dev, driver, torch)) WITHOUT ROWID""",
    ),
)
"""What leads from each version to the next; the version of a file is its ``PRAGMA user_version``."""
