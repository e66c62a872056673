"""A stack of stand-ins. `python -m tools.tests.embedded.stand_in_stack` runs it as `make run` runs the real one."""

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path

from tools.embedded.__main__ import main
from tools.embedded.plan import Plan, Process, Stage
from tools.embedded.supervisor import Stack

# Name, stage and the variable of the port. The variables are the real ones, because the supervisor checks those.
PROCESSES = [
    ("broker", Stage.BROKER, "KAFKA_PORT"),
    ("handset", Stage.TOOL, "HANDSET_PORT"),
    ("delivery api", Stage.API, "DELIVERY_PORT"),
    ("delivery worker", Stage.WORKER, "DELIVERY_WORKER_PORT"),
    ("gateway", Stage.GATEWAY, "GATEWAY_PORT"),
]

REPAIR = """
import os, pathlib, time
while not pathlib.Path(os.environ.get("REPAIR_AFTER") or "/").exists():
    time.sleep(0.02)
print('repaired')
"""


def stand_in_plan(home: Path, environment: Mapping[str, str]) -> Plan:
    """Return the plan. `WORKER_BEHAVIOUR` of the environment is the behaviour of the worker.

    The repair waits until the file that `REPAIR_AFTER` names exists, if it is set.
    """
    processes = []
    for name, stage, variable in PROCESSES:
        command = [sys.executable, "-m", "tools.tests.embedded.stand_in", environment[variable]]
        if stage is Stage.WORKER:
            command.append(environment.get("WORKER_BEHAVIOUR", ""))
        ready_path = "" if stage is Stage.BROKER else "/health/ready"
        processes.append(
            Process(
                name=name,
                stage=stage,
                command=command,
                port=int(environment[variable]),
                port_variable=variable,
                ready_path=ready_path,
            )
        )
    setup = {"migrate": [sys.executable, "-c", "import os; print('DATABASE_URL' in os.environ)"]}
    repair = {"republish": [sys.executable, "-c", REPAIR]}
    return Plan(processes, setup, repair=repair)


if __name__ == "__main__":
    sys.exit(asyncio.run(main(lambda: Stack(make_plan=stand_in_plan, free_ports=True))))
