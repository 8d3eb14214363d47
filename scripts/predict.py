"""The same as `thaw predict`, in a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("predict")
