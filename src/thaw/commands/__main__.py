"""Run `python -m thaw.commands`, which is the same as `thaw`."""

from thaw.commands import main

main()
