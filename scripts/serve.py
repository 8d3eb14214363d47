"""Try a trained model in the browser: drop images, see its classes and where it looks; and the same for programs.

RUN is the folder of a run, or a checkpoint file. Nothing that is sent is kept. There is no password: leave --host as it
is unless everyone who reaches this machine may use the model.
"""

import argparse
import sys
from pathlib import Path

from thaw.errors import RunError, UserError
from thaw.runs.streams import outlived


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("--port", type=_port, default=8000, metavar="N", help="0 for one that is free (8000)")
    add("--host", default="127.0.0.1", metavar="NAME", help="where it listens (127.0.0.1: this machine alone)")
    return parser.parse_args()


def _port(told: str) -> int:
    if not (told.isascii() and told.isdecimal() and len(told) < 6 and int(told) <= 65535):
        raise argparse.ArgumentTypeError(f"{told} is not within 0..65535")
    return int(told)


def _serve(chosen: argparse.Namespace) -> None:
    try:
        from thaw.inference.serve.server import Address, serve
    except ModuleNotFoundError as error:
        raise UserError(f"there is no {error.name}: serving needs pip install -e '.[serve]'.") from error
    address = Address(chosen.host, chosen.port)
    from thaw.inference.serve.app import create_app
    from thaw.inference.trained_model import load_model

    serve(create_app(load_model(chosen.run), address.hosts), address)


def main() -> int:
    chosen = options()
    try:
        _serve(chosen)
    except (UserError, RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    with outlived():
        sys.exit(main())
