"""Five profiles that together use most of the grammar."""

from __future__ import annotations

TENSTORRENT = r"""schema = 1
profile = { id = "tenstorrent", vendor = "Tenstorrent", kind = "npu" }
[match]
roots = ["/sys/class/tenstorrent/tenstorrent!*"]
require = [{ path = "device/vendor", equals = "0x1e52" }]
[anchors]
pci = { link = "device" }
hwmon = { glob = "{pci}/hwmon/hwmon*", name = "wormhole|blackhole", optional = true }

[identity]
key = { basename_of = "pci" }
name = [{ path = "tt_card_type", skip = ["unknown"], map = { p150a = "Blackhole p150a" } }, { path = "{pci}/device", map = { "0xb140" = "Blackhole", "0x401e" = "Wormhole" } }]
serial = { path = "tt_serial" }
firmware = { path = "tt_fw_bundle_ver" }
[metrics.temperature_die]
path = "{hwmon}/temp*_input"
label = "asic_temp"
unit = "m°C"
max = { path = "{hwmon}/temp1_max", unit = "m°C" }
[metrics.power]
path = "{hwmon}/power*_input"
label = "power"
unit = "uW"
[metrics.clock_core]
path = "tt_aiclk"
unit = "MHz"
[metrics.pcie_rx]
paths = ["pcie_perf_counters/mst_rd_data_word_received0", "pcie_perf_counters/mst_rd_data_word_received1"]
reduce = "sum"
type = "counter"
bits = 32
scale = 32
unit = "B"
[metrics.heartbeat]
path = "tt_heartbeat"
type = "counter"
bits = 32
health = { stalled_after = "10s" }
[[throttle]]
id = "thermal_trip"
class = "thermal"
path = "tt_therm_trip_count"
type = "counter"
[processes]
pids = { path = "/proc/driver/tenstorrent/{instance_number}/pids", parse = "ints", dedupe = true }
"""

NEURON = r"""schema = 1
profile = { id = "neuron", vendor = "AWS", kind = "npu" }
match = { roots = ["/sys/devices/virtual/neuron_device/neuron[0-9]*"] }
[identity]
key = { path = "info/serial_number" }
name = [{ path = "info/architecture/device_name" }]
[[memory]]
id = "device"
used = { paths = ["neuron_core*/stats/memory_usage/device_mem/total"], reduce = "sum", unit = "B" }
total = { by = "name", table = { Inferentia2 = "32GiB" } }
[metrics.power_ratio]
path = "stats/power/utilization"
parse = { csv = 4 }
unit = "%"
guard = { csv = 0, equals = "POWER_STATUS_VALID" }
timestamp = { csv = 1, unit = "s" }
min_interval = "60s"
[metrics.errors]
paths = ["neuron_core*/stats/status/hw_error/total", "neuron_core*/stats/status/timeout/total"]
reduce = "sum"
type = "counter"
"""

GAUDI = r"""schema = 1
profile = { id = "gaudi", vendor = "Intel Habana", kind = "npu" }
match = { roots = ["/sys/class/accel/accel*/device", "/sys/class/habanalabs/hl*"], require = [{ path = "device_type", regex = "^(GAUDI|GOYA)" }] }
anchors = { hwmon = { glob = "hwmon/hwmon*", optional = true } }
identity = { key = { path = "pci_addr" }, name = [{ path = "device_type" }] }
status = { path = "status", map = { Operational = "ok", "In reset" = "resetting", Malfunction = "failed" } }
[metrics]
clock_core = { path = "clk_cur_freq_mhz", unit = "MHz", max = { path = "clk_max_freq_mhz", unit = "MHz" } }
power_limit = { path = "max_power", unit = "mW" }
power = { path = "{hwmon}/power1_input", unit = "uW", verified = false }
temperature_die = { path = "{hwmon}/temp1_input", unit = "m°C", max = { path = "{hwmon}/temp1_crit", unit = "m°C" } }
"""

AMDGPU = r"""schema = 1
profile = { id = "amdgpu", vendor = "AMD", kind = "gpu" }
match = { roots = ["/sys/class/drm/card[0-9]*/device"], require = [{ path = "driver", link_basename = "amdgpu" }] }
anchors = { hwmon = { glob = "hwmon/hwmon*", optional = true } }
guard = { skip_when = [{ path = "power/runtime_status", equals = "suspended" }, { path = "power_state", in = ["D3hot", "D3cold"] }] }
identity = { key = { path = "uevent", parse = { kv = "PCI_SLOT_NAME", sep = "=" } }, name = [{ path = "product_name", skip = [""] }, { path = "device" }] }
[metrics]
utilization = { path = "gpu_busy_percent", unit = "%" }
clock_core = { path = "pp_dpm_sclk", parse = { regex = '(\d+)\s*[Mm][Hh]z\s*\*' }, unit = "MHz" }
temperature_hotspot = { path = "{hwmon}/temp*_input", label = "junction", unit = "m°C", max = { suffix = "_crit" } }
power = { first_of = [{ path = "{hwmon}/power1_average" }, { path = "{hwmon}/power1_input" }], unit = "uW" }
power_limit = { path = "{hwmon}/power1_cap", unit = "uW" }
[[memory]]
id = "vram"
used = { path = "mem_info_vram_used", unit = "B" }
total = { path = "mem_info_vram_total", unit = "B" }
[[memory]]
id = "gtt"
role = "shared-host"
used = { path = "mem_info_gtt_used", unit = "B" }
total = { path = "mem_info_gtt_total", unit = "B" }
[[throttle]]
decoder = "amdgpu_gpu_metrics"
path = "gpu_metrics"
"""

ACME = r"""schema = 1
profile = { id = "acme", vendor = "ACME", kind = "npu" }
match = { roots = ["/sys/class/acmechip/acme*"] }
identity = { key = { path = "identity", parse = { kv = "serial", sep = ":" } }, name = [{ path = "identity", parse = { kv = "model", sep = ":" } }] }
[metrics]
power = { path = "energy_pj", type = "counter", bits = 64, unit = "pJ" }
utilization = { path = "engines", parse = { regex = 'Core\d+:\s*(\d+)%', all = true }, reduce = "mean", unit = "%" }
clock_core = { path = "state.json", parse = { json = "/clk/core" }, unit = "MHz" }
temperature_die = { path = "state.json", parse = { json = "/temps/0/mc" }, unit = "m°C" }
mem_read_rate = { path = "bw", parse = { regex = '(?m)^rd (\d+)' }, type = "counter", bits = 64, unit = "KiB" }
[[memory]]
id = "hbm"
used = { path = "mem/hbm", parse = { kv = "used", sep = "=" }, unit = "B" }
total = { path = "mem/hbm", parse = { kv = "total", sep = "=" }, unit = "B" }
[[throttle]]
path = "throttle"
parse = "hex"
bits = { 0 = { id = "thermal", class = "thermal" }, 2 = { id = "power_cap", class = "power" } }
"""

ALL = {"tenstorrent": TENSTORRENT, "neuron": NEURON, "gaudi": GAUDI, "amdgpu": AMDGPU, "acme": ACME}
