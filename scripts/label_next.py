"""Run `thaw label_next` from a checkout."""

from thaw.commands import launch

if __name__ == "__main__":
    launch("label_next")
