"""The same as `thaw evaluate`, in a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("evaluate")
