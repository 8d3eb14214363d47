"""The same as `thaw draw`, in a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("draw")
