"""python -m thaw.commands: the same as `thaw`."""

from thaw.commands import main

main()
