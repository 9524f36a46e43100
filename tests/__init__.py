"""The environment of all tests, set before anything reads it: no test leaves this machine."""

import os

from tests.loopback_hub import free_port

HUB_PORT = free_port()
os.environ["HF_ENDPOINT"] = f"http://127.0.0.1:{HUB_PORT}"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
os.environ.setdefault("NO_PROXY", "127.0.0.1,localhost")
os.environ.pop("HF_HUB_OFFLINE", None)

# pytest -n: they share the cores. In any case a number that stays, so that equal means equal to the bit. The workers
# inherit what the process that starts them has set, and it does not know how many there will be
WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
_BY_HAND = os.environ.setdefault("SAM2KIT_TEST_THREADS", os.environ.get("OMP_NUM_THREADS", ""))
os.environ["OMP_NUM_THREADS"] = _BY_HAND or str(max(1, (os.cpu_count() or 1) // WORKERS))
