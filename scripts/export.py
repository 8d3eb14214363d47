"""The same as `thaw export`, in a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("export")
