"""Write the JSON schema of an experiment's file; run it after a change of its fields.

python scripts/write_schema.py
"""

from __future__ import annotations

from pathlib import Path

import gradiend
from gradiend.experiment._fields import SCHEMA_FILE
from gradiend.experiment._reading import made_schema
from gradiend.util._files import write_json


def main() -> None:
    write_json(Path(gradiend.__file__).parent / "experiment" / SCHEMA_FILE, made_schema())


if __name__ == "__main__":
    main()
