"""DBOS without a database server: its state in one file of SQLite. The process that calls this is a worker of its own."""

from __future__ import annotations

from dbos import DBOS


def launch(name: str, database: str, version: str | None) -> None:
    """Start DBOS, which takes up the unfinished workflows of this ``version``; None: the one that DBOS computes.

    ``name``: of the application; ``database``: path of the file. Nothing is written to a terminal.
    """
    config = {
        "name": name,
        "system_database_url": f"sqlite:///{database}",
        "executor_id": "lab",
        "log_level": "CRITICAL",
    }
    if version is not None:
        config["application_version"] = version
    DBOS(config=config)
    DBOS.launch()
