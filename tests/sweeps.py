"""Read and await the results of sweeps that run in other processes."""

import json
import re
import time


def statuses(sweep):
    return {path.parent.name: json.loads(path.read_text())["status"] for path in sweep.glob("*/summary.json")}


def comparison_without_times(sweep):
    """Return `comparison.json` and the page without times, memory and commands, which differ between equal sweeps."""

    def timeless(value):
        costs = ("seconds", "train_images_per_second", "peak_memory_mb", "pareto", "command")
        if isinstance(value, dict):
            return {key: timeless(entry) for key, entry in value.items() if key not in costs}
        return [timeless(entry) for entry in value] if isinstance(value, list) else untimed(value)

    def untimed(text):
        return re.sub(r"; \S+ takes the least time: .*?\.(?=\D|$)", ".", text) if isinstance(text, str) else text

    facts = timeless(json.loads((sweep / "comparison.json").read_text()))
    costs = r'<pre>.*?</pre>|<div class="plot cost">.*?</div>|<td class="n cost".*?</td>'
    page = re.sub(costs, "", untimed((sweep / "report.html").read_text()), flags=re.DOTALL)
    return facts, page


def wait_for(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
