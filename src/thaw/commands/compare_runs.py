"""Compare finished runs: write comparison.json, comparison.csv and report.html for all runs in the given folders."""

from argparse import Namespace
from pathlib import Path

from thaw.commands import frame
from thaw.runs import run_files
from thaw.runs.optional_output import naming_page
from thaw.runs.ownership import refuse_other_results
from thaw.runs.writable import refuse_unwritable


def options() -> Namespace:
    parser = frame.parser(__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a run, a sweep, or a folder of runs")
    parser.add_argument("--out", type=Path, metavar="DIR", help="output folder (DIR, or outputs if several DIRs)")
    parser.add_argument("--split", choices=("val", "test"), default="val", help="images used to compare the runs (val)")
    return parser.parse_args()


def main() -> int:
    chosen = options()
    from thaw.comparison.comparison_page import table, write_comparison  # imports SciPy, which takes a second
    from thaw.comparison.finished_runs import find_runs, no_run

    runs = find_runs(chosen.folders)
    if not runs:
        raise no_run(", ".join(map(str, chosen.folders)))
    out = chosen.out or (chosen.folders[0] if len(chosen.folders) == 1 else Path("outputs"))
    if chosen.out:
        refuse_other_results(out, ("comparison.json", run_files.SWEEP_CONFIG), "a comparison")
    refuse_unwritable(out, "--out")
    facts = write_comparison(out, [run.folder for run in runs], chosen.split)
    print(table(facts) + naming_page("report", out / run_files.REPORT))
    return 0
