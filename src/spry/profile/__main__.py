"""The measuring process: reads one case from standard input, writes its row as the last line of standard output."""

from __future__ import annotations

import json
import sys

from spry.profile.case import Case
from spry.profile.measure import measure_case

if __name__ == "__main__":
    row = measure_case(Case(**json.load(sys.stdin)))
    sys.stdout.write("\n" + json.dumps(row.to_json()) + "\n")
