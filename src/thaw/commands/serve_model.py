"""Serve a trained model: drop images on a page to see their classes and where the model looks, or post them over HTTP.

RUN is a run's folder or a checkpoint. Images that are sent are not kept. There is no password: do not change --host
unless everyone who reaches this machine may use the model.
"""

from argparse import ArgumentTypeError, Namespace
from pathlib import Path

from thaw.commands import frame
from thaw.errors import UserError


def options() -> Namespace:
    parser = frame.parser(__doc__)
    add = parser.add_argument
    add("run", type=Path, metavar="RUN")
    add("--port", type=_port, default=8000, metavar="N", help="port to listen on; 0 takes any free port (8000)")
    add("--host", default="127.0.0.1", metavar="NAME", help="address to listen on (127.0.0.1: for this machine only)")
    return parser.parse_args()


def _port(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 6 and int(text) <= 65535):
        raise ArgumentTypeError(f"{text} is not within 0..65535")
    return int(text)


def main() -> None:
    chosen = options()
    try:
        from thaw.inference.serve.server import Address, serve
    except ModuleNotFoundError as error:
        raise UserError(f"{error.name} is not installed: serving needs pip install -e '.[serve]'.") from error
    address = Address(chosen.host, chosen.port)
    from thaw.inference.serve.app import create_app  # imports torch, so the address is checked first
    from thaw.inference.trained_model import load_model

    serve(create_app(load_model(chosen.run), address.hosts), address)
