"""Start a command: `thaw COMMAND` or, in a checkout, train.py or a script in scripts/."""

import sys
from importlib import import_module

# Command name: (module, help text). `main()` of the module reads `sys.argv` and returns an exit status.
COMMANDS = {
    "train": ("train", "train a network with a strategy, or with several in a sweep"),
    "predict": ("predict_images", "predict the classes of images"),
    "evaluate": ("evaluate_model", "measure accuracy, calibration and robustness on labelled images"),
    "export": ("export_model", "write a model for ONNX, PyTorch or timm"),
    "serve": ("serve_model", "open a page to try a model in the browser"),
    "label_next": ("label_next", "choose which images to label next"),
    "compare": ("compare_runs", "compare finished runs"),
    "prepare": ("prepare_data", "split unchecked photographs into a data set"),
    "audit": ("audit_data", "look for faults in a data set"),
    "benchmark": ("benchmark_speed", "measure the speed against a plain PyTorch loop"),
    "draw": ("draw_animals", "draw the built-in animals into folders"),
}

_HELP = f"""usage: thaw COMMAND ...

Compare transfer-learning strategies on your images.

{chr(10).join(f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items())}

thaw COMMAND --help explains a command; thaw --version prints the version.
"""


def main() -> None:
    """Run `thaw COMMAND …` and exit with its status."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_HELP, end="")
    elif name == "--version":
        from thaw.storage.versions import library_version

        print(f"thaw {library_version('thaw')}")
    elif name in COMMANDS:
        sys.argv = [f"thaw {name}", *arguments]
        launch(name)
    else:
        print(f"error: there is no command {name!r}; the commands are {', '.join(COMMANDS)}.", file=sys.stderr)
        sys.exit(2)


def launch(name: str) -> None:
    """Run the command `name` with the arguments in `sys.argv`, and exit with its status."""
    if name == "train":
        from thaw.runs.stopping import end_on_interrupt

        end_on_interrupt()  # before importing Hydra, which takes a moment
        import_module("thaw.commands.train").launch()
        return
    from thaw.commands.frame import run

    module = import_module(f"thaw.commands.{COMMANDS[name][0]}")
    sys.exit(run(module.main, quiet=getattr(module, "PRINTS_RESULTS", False)))
