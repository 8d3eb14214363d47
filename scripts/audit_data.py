"""The same as `thaw audit`, in a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("audit")
