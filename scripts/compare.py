"""Run `thaw compare` from a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("compare")
