"""Compare runs that are done: `comparison.json`, `comparison.csv` and `report.html` of all runs in some folders."""

import argparse
import sys
from pathlib import Path

from thaw.errors import UserError
from thaw.runs.ownership import refuse_other_results
from thaw.runs.streams import outlived
from thaw.runs.writable import refuse_unwritable


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a run, a sweep, or what holds some")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: the one DIR, else outputs)")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    from thaw.comparison.comparison_page import (  # plots and statistics, which --help need not wait for
        table,
        write_comparison,
    )
    from thaw.comparison.finished_runs import find_runs

    runs = find_runs(chosen.folders)
    if not runs:
        named = ", ".join(map(str, chosen.folders))
        print(f"error: there is no run in {named}: a run's folder holds summary.json and .hydra.", file=sys.stderr)
        return 2
    out = chosen.out or (chosen.folders[0] if len(chosen.folders) == 1 else Path("outputs"))
    try:
        if chosen.out:
            refuse_other_results(out, ("comparison.json", "multirun.yaml"), "a comparison")
        refuse_unwritable(out, "--out")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{table(write_comparison(out, [run.folder for run in runs]))}\n\nreport   {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    with outlived():
        sys.exit(main())
