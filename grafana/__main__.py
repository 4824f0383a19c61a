"""`python -m grafana`: writes the dashboards' files."""

from __future__ import annotations

import json
from pathlib import Path

from grafana import failover, gateway, overview, snapshots
from grafana.panels import Json, dashboard_json

FOLDER = Path(__file__).parent / "dashboards"
BOARDS = {
    "overview": overview.BOARD,
    "failover": failover.BOARD,
    "snapshots": snapshots.BOARD,
    "gateway": gateway.BOARD,
}


def main() -> None:
    """Write each dashboard to `dashboards/NAME.json`."""
    for name, board in BOARDS.items():
        (FOLDER / f"{name}.json").write_text(text_of(dashboard_json(board)))


def text_of(board: Json) -> str:
    """The content of a dashboard's file."""
    return json.dumps(board, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    main()
