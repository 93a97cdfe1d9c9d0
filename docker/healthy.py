"""What the health checks of compose.yaml ask, with nothing but the standard library: a check must cost next to nothing.

healthy.py http://127.0.0.1:5500/health      the address answers with success
healthy.py airflow scheduler                 Airflow's API has heard from that part of it lately
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request

SECONDS = 8


def main(words: list[str]) -> int:
    """0 if it is well, 1 and the reason if not."""
    try:
        if words[0] == "airflow":
            told = json.loads(ask(f"{os.environ['NIGHTSHIFT_AIRFLOW_URL']}/api/v2/monitor/health"))
            state = told[words[1]]["status"]
            print(f"{words[1]} is {state}")
            return 0 if state == "healthy" else 1
        ask(words[0])
    except (OSError, ValueError) as error:  # HTTP's errors are among the first
        print(f"{words[-1]}: {error}")
        return 1
    return 0


def ask(url: str) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy between us and ourselves
    with opener.open(url, timeout=SECONDS) as answer:
        return bytes(answer.read())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
