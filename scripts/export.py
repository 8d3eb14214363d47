"""Run `thaw export` from a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("export")
