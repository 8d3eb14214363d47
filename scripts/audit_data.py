"""Run `thaw audit` from a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("audit")
