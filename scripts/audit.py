"""Ask the advisory database of the package index about every package in a folder of installed packages.

    python scripts/audit.py FOLDER

`make audit` installs pip-audit, which this calls, into an environment of its own. A build of its own (`torch+cpu`) is
not in the database and is only named; any other package without an answer is an error: it was not audited.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any


def main() -> None:
    options = ["--format", "json", "--progress-spinner", "off", "--path", sys.argv[1]]
    command = [sys.executable, "-m", "pip_audit", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not done.stdout.strip():
        sys.exit(f"pip-audit gave no answer: {done.stderr}")
    packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    found = [(one, hole) for one in packages for hole in one.get("vulns", [])]
    for one, hole in found:
        fixed = ", ".join(hole["fix_versions"]) or "no version yet"
        print(f"{one['name']} {one['version']}: {hole['id']}, fixed in {fixed}")
    unknown = [one for one in packages if "skip_reason" in one]
    own_builds = [one for one in unknown if "+" in one["skip_reason"] or one["name"] == "gradiend"]
    missing = [one["name"] for one in unknown if one not in own_builds]
    print(f"{len(packages) - len(unknown)} packages audited, {len(found)} known vulnerabilities")
    if own_builds:
        print("Not in the database:", ", ".join(one["name"] for one in own_builds))
    if missing:
        sys.exit(f"No answer for {len(missing)} packages ({', '.join(missing[:5])}, …): is the database reachable?")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
