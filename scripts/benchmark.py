"""The same as `thaw benchmark`, in a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("benchmark")
