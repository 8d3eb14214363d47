"""The same as `thaw compare`, in a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("compare")
