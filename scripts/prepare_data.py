"""The same as `thaw prepare`, in a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("prepare")
